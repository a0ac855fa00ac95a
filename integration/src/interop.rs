//! The gRPC project's interop programs: clients and servers of several languages that speak one published set of test
//! cases (grpc/doc/interop-test-descriptions.md), so that every client can be held against every server.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process::Process;
use crate::server::Server;

pub mod cpp;
pub mod go;
pub mod java;
pub mod node;
pub mod python;
pub mod ruby;
pub mod source;

// Of the published cases, these are left out: those with credentials, which need TLS and Google's cloud, and
// cacheable_unary, which asks for a caching proxy (the two answers of a server that writes its time must be equal).

/// The cases that every client and every server has.
const COMMON: &[&str] = &[
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "cancel_after_begin",
    "cancel_after_first_response",
    "timeout_on_sleeping_server",
    "status_code_and_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
];
const SPECIAL_STATUS: &str = "special_status_message";
const CLIENT_COMPRESSED: &[&str] = &["client_compressed_unary", "client_compressed_streaming"];
const SERVER_COMPRESSED: &[&str] = &["server_compressed_unary", "server_compressed_streaming"];
const SOAK: &[&str] = &["rpc_soak", "channel_soak"];
const ORCA: &[&str] = &["orca_per_rpc", "orca_oob"];

/// A language: what its client can ask, and what its server can answer.
#[derive(Debug)]
pub struct Language {
    /// As people write it.
    pub name: &'static str,
    client: fn() -> Result<Command>,
    server: fn() -> Result<Command>,
    client_cases: &'static [&'static [&'static str]],
    server_cases: &'static [&'static [&'static str]],
}

/// C++ on gRPC's C core: the reference for compression, which few others implement.
pub static CPP: Language = Language {
    name: "C++",
    client: cpp::client,
    server: cpp::server,
    client_cases: &[COMMON, &[SPECIAL_STATUS, "half_duplex"], CLIENT_COMPRESSED, SERVER_COMPRESSED, SOAK],
    server_cases: &[COMMON, &[SPECIAL_STATUS, "half_duplex"], CLIENT_COMPRESSED, SERVER_COMPRESSED, SOAK],
};

/// grpc-go, with an HTTP/2 of its own.
pub static GO: Language = Language {
    name: "Go",
    client: go::client,
    server: go::server,
    client_cases: &[COMMON, &[SPECIAL_STATUS], SOAK, ORCA],
    server_cases: &[COMMON, &[SPECIAL_STATUS, "half_duplex"], SOAK, ORCA],
};

/// grpc-java, on Netty. Its server takes a compressed request as well as a plain one, and compresses whole calls only.
pub static JAVA: Language = Language {
    name: "Java",
    client: java::client,
    server: java::server,
    client_cases: &[COMMON, &[SPECIAL_STATUS], CLIENT_COMPRESSED, SERVER_COMPRESSED, SOAK],
    server_cases: &[COMMON, &[SPECIAL_STATUS, "half_duplex", "server_compressed_unary"], SOAK],
};

/// grpc-js, on Node's HTTP/2. The program is ours, the runtime and the cases are not.
pub static NODE: Language = Language {
    name: "Node",
    client: node::client,
    server: node::server,
    client_cases: &[COMMON, &[SPECIAL_STATUS, "half_duplex", "client_compressed_unary"], SERVER_COMPRESSED, SOAK],
    server_cases: &[COMMON, &[SPECIAL_STATUS, "half_duplex"], SOAK],
};

/// grpcio, on the C core of today.
pub static PYTHON: Language = Language {
    name: "Python",
    client: python::client,
    server: python::server,
    client_cases: &[COMMON, &[SPECIAL_STATUS]],
    server_cases: &[COMMON, &[SPECIAL_STATUS], SOAK],
};

/// The grpc gem, on the C core of 2022.
pub static RUBY: Language = Language {
    name: "Ruby",
    client: ruby::client,
    server: ruby::server,
    client_cases: &[COMMON, CLIENT_COMPRESSED],
    server_cases: &[COMMON, &[SPECIAL_STATUS], SOAK],
};

/// Every language there is.
pub static LANGUAGES: [&Language; 6] = [&CPP, &GO, &JAVA, &NODE, &PYTHON, &RUBY];

impl Language {
    /// Starts this language's server.
    ///
    /// # Errors
    ///
    /// When it cannot be installed or started.
    pub fn start_server(&self) -> Result<Server> {
        Server::start(&format!("{} interop server", self.name), |address| {
            let mut command = (self.server)()?;
            command.arg(format!("--port={}", address.port()));
            Ok(command)
        })
    }

    /// The cases that this client can ask of that server.
    pub fn cases_against(&self, server: &Language) -> impl Iterator<Item = &'static str> {
        let offered: Vec<_> = server.server_cases.concat();
        self.client_cases.concat().into_iter().filter(move |case| offered.contains(case))
    }

    /// Runs one case of this client against whatever listens on `address`.
    ///
    /// # Errors
    ///
    /// When the client cannot be run, does not end, or finds the case to fail; the error holds its output.
    pub fn run_client(&self, case: &str, address: SocketAddr) -> Result<()> {
        let mut command = (self.client)()?;
        command
            .arg(format!("--server_host={}", address.ip()))
            .arg(format!("--server_port={}", address.port()))
            .arg(format!("--test_case={case}"))
            .args(case_arguments(case));
        let mut client = Process::start(&format!("{} interop client, {case}", self.name), &mut command)?;
        let status = client.wait()?;
        if !status.success() {
            bail!("the client ended with {status}:\n{}", client.lines().join("\n"));
        }
        Ok(())
    }
}

fn case_arguments(case: &str) -> &'static [&'static str] {
    if SOAK.contains(&case) {
        &[
            "--soak_iterations=100",
            "--soak_max_failures=0",
            "--soak_overall_timeout_seconds=50",
            "--soak_per_iteration_max_acceptable_latency_ms=10000",
        ]
    } else if ORCA.contains(&case) {
        &[r#"--service_config_json={"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}"#]
    } else {
        &[]
    }
}
