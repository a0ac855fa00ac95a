//! The tests' own tools: what is installed works, and is installed once.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use weir_integration::tools;

#[test]
fn python_has_grpcio_and_raw_http2() {
    let modules = "import grpc, grpc_tools.protoc, grpc_health, grpc_reflection, h2, hyperframe, hpack";
    tools::run(Command::new(tools::python().unwrap()).args(["-c", modules])).unwrap();
}

#[test]
fn node_has_grpc_js() {
    let modules = "require('@grpc/grpc-js'); require('@grpc/proto-loader')";
    tools::run(tools::node().unwrap().args(["-e", modules])).unwrap();
}

#[test]
fn tool_is_built_once_by_recipe() {
    let name = "tool-is-built-once-by-recipe";
    let built = std::sync::atomic::AtomicUsize::new(0);
    let build = |recipe: &str| {
        let count = |_: &std::path::Path| {
            built.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(())
        };
        tools::ensure(name, recipe, count).unwrap();
    };
    build(&format!("first {}", std::process::id()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| build(&format!("second {}", std::process::id())));
        }
    });
    assert_eq!(built.into_inner(), 2);
}

#[test]
fn failed_install_is_tried_again() {
    let name = "failed-install-is-tried-again";
    let recipe = std::process::id().to_string();
    let error = tools::ensure(name, &recipe, |_| anyhow::bail!("no such package")).unwrap_err();
    assert!(format!("{error:#}").contains("no such package"), "{error:#}");
    tools::ensure(name, &recipe, |folder| Ok(std::fs::write(folder.join("file"), "")?)).unwrap();
}
