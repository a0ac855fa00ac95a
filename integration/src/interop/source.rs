//! The source of gRPC 1.51.1, as Debian archives it: the interop programs of C++ and Python, and the `.proto` files.

use std::path::PathBuf;

use anyhow::Result;

use crate::tools::debian::PoolFile;
use crate::tools::ensure;

const SOURCE: PoolFile = PoolFile {
    path: "pool/main/g/grpc/grpc_1.51.1.orig.tar.gz",
    sha256: "b55696fb249669744de3e71acc54a9382bea0dce7cd5ba379b356b12b82d4229",
};

/// What the interop programs are built from; the C++ ones reach into the library's internal headers.
const MEMBERS: &[&str] = &[
    "src/core/*.h",
    "src/cpp/*.h",
    "src/proto/grpc/testing/*.proto",
    "src/python/grpcio_tests/tests/interop",
    "src/python/grpcio_tests/tests/unit/test_common.py",
    "test/core/end2end/data",
    "test/core/security/oauth2_utils.h",
    "test/core/util",
    "test/cpp/interop",
    "test/cpp/util",
];

/// The folder with the source.
///
/// # Errors
///
/// When it cannot be fetched.
pub fn folder() -> Result<PathBuf> {
    ensure("grpc-source", include_str!("source.rs"), |folder| SOURCE.unpack_source(folder, MEMBERS))
}
