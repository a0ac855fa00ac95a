//! The Java interop programs of grpc-java 1.41.3, compiled against Debian's jars; the transport is Netty.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::server::Server;
use crate::tools::debian::PoolFile;
use crate::tools::{debian, ensure, on_path, output, run, scripts};

const SOURCE: PoolFile = PoolFile {
    path: "pool/main/g/grpc-java/grpc-java_1.41.3+ds.orig.tar.xz",
    sha256: "80c00f95df30fb38928d9890e21fcdac48ab314a41b2e0a6c16748130d9201b8",
};

/// Where the programs and what they import of grpc-java's unpackaged parts lie.
const MEMBERS: &[&str] =
    &["interop-testing/src", "testing/src/main/java", "census/src/main/java", "core/src/test/java"];

const PACKAGES: &[&str] = &[
    "junit4",
    "libgoogle-auth-java",
    "libgoogle-gson-java",
    "libgrpc-java",
    "libguava-java",
    "libhdrhistogram-java",
    "libjsr305-java",
    "libnetty-java",
    "libopencensus-java",
    "libperfmark-java",
    "libprotobuf-java",
    "libtruth-java",
    "protobuf-compiler",
];

/// The jars of these packages, below `/usr/share/java`.
const JARS: &[&str] = &[
    "google-auth-library-credentials",
    "google-auth-library-oauth2-http",
    "grpc-api",
    "grpc-auth",
    "grpc-context",
    "grpc-core",
    "grpc-netty",
    "grpc-protobuf",
    "grpc-protobuf-lite",
    "grpc-stub",
    "gson",
    "guava",
    "hamcrest-core",
    "hdrhistogram",
    "jsr305",
    "junit4",
    "netty-buffer",
    "netty-codec",
    "netty-codec-http",
    "netty-codec-http2",
    "netty-codec-socks",
    "netty-common",
    "netty-handler",
    "netty-handler-proxy",
    "netty-resolver",
    "netty-transport",
    "netty-transport-native-epoll",
    "netty-transport-native-unix-common",
    "opencensus-api",
    "opencensus-contrib-grpc-metrics",
    "perfmark-api",
    "perfmark-impl",
    "protobuf",
    "truth",
];

const JAR: &str = "interop.jar";
const ARCHIVE: &str = "interop.jsa";
const PROGRAMS: &str = "io/grpc/testing/integration";

/// The client, without arguments.
///
/// # Errors
///
/// When it cannot be built.
pub fn client() -> Result<Command> {
    program("TestServiceClient")
}

/// The server, without arguments.
///
/// # Errors
///
/// When it cannot be built.
pub fn server() -> Result<Command> {
    program("TestServiceServer")
}

fn program(class: &str) -> Result<Command> {
    let folder = programs()?;
    java(&folder, class, &format!("-XX:SharedArchiveFile={}", folder.join(ARCHIVE).display()))
}

fn java(folder: &Path, class: &str, archive: &str) -> Result<Command> {
    let mut java = Command::new("java");
    // For programs that live for a second: the quick compiler, and no collector threads.
    java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", archive, "-cp"])
        .arg(class_path(Some(&folder.join(JAR)))?)
        .arg(format!("{}.{class}", PROGRAMS.replace('/', ".")))
        .arg("--use_tls=false");
    Ok(java)
}

fn programs() -> Result<PathBuf> {
    let absent = scripts().join("interop/java");
    let recipe = [include_str!("java.rs"), &contents(&absent)?].concat();
    ensure("interop-java", &recipe, |folder| {
        debian::install(PACKAGES)?;
        if !on_path("javac") {
            debian::install(&["default-jdk-headless"])?;
        }
        let source = folder.join("source");
        SOURCE.unpack_source(&source, MEMBERS)?;
        generate(&source)?;
        compile(&source, &absent, &folder.join("classes"))?;
        run(Command::new("jar").arg("cf").arg(folder.join(JAR)).arg("-C").arg(folder.join("classes")).arg("."))?;
        fs::remove_dir_all(source)?;
        archive(folder)
    })
}

/// Writes down the classes that a call loads, which halves the start of every later client.
fn archive(folder: &Path) -> Result<()> {
    let server = Server::start("Java interop server", |address| {
        let mut server = java(folder, "TestServiceServer", "-Xshare:auto")?;
        server.arg(format!("--port={}", address.port()));
        Ok(server)
    })?;
    let mut client =
        java(folder, "TestServiceClient", &format!("-XX:ArchiveClassesAtExit={}", folder.join(ARCHIVE).display()))?;
    run(client
        .arg(format!("--server_host={}", server.address.ip()))
        .arg(format!("--server_port={}", server.address.port()))
        .arg("--test_case=custom_metadata"))
}

fn generate(source: &Path) -> Result<()> {
    let protos = source.join("interop-testing/src/main/proto");
    fs::create_dir(source.join("generated"))?;
    let mut protoc = Command::new("protoc");
    protoc
        .arg("-I")
        .arg(&protos)
        .arg(format!("--java_out={}", source.join("generated").display()))
        .args(["empty", "messages", "test"].map(|name| format!("grpc/testing/{name}.proto")));
    run(&mut protoc)
}

fn compile(source: &Path, absent: &Path, classes: &Path) -> Result<()> {
    let parts = [
        "generated",
        "interop-testing/src/main/java",
        "interop-testing/src/generated/main/grpc",
        "testing/src/main/java",
        "census/src/main/java",
        "core/src/test/java",
    ];
    // What is absent comes first: it replaces one class of the source that could not be compiled.
    let source_path = std::iter::once(absent.to_owned()).chain(parts.iter().map(|part| source.join(part)));
    let programs = source.join("interop-testing/src/main/java").join(PROGRAMS);
    run(Command::new("javac")
        .args(["-nowarn", "-proc:none", "-encoding", "UTF-8", "-d"])
        .arg(classes)
        .arg("-cp")
        .arg(class_path(None)?)
        .arg("-sourcepath")
        .arg(std::env::join_paths(source_path)?)
        .args(["TestServiceClient.java", "TestServiceServer.java"].map(|program| programs.join(program))))
    .context("compiling the Java interop programs")
}

fn class_path(first: Option<&Path>) -> Result<std::ffi::OsString> {
    let jars = JARS.iter().map(|jar| Path::new("/usr/share/java").join(format!("{jar}.jar")));
    Ok(std::env::join_paths(first.map(Path::to_owned).into_iter().chain(jars))?)
}

fn contents(folder: &Path) -> Result<String> {
    output(Command::new("sh").args(["-c", "find . -type f | sort | xargs cat"]).current_dir(folder))
}
