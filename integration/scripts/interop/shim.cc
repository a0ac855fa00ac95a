// gRPC's test library, as far as the interop programs link it: no test environment, and no certificates or tokens,
// which only the cases over TLS would ask for.

#include "test/core/end2end/data/ssl_test_data.h"
#include "test/core/security/oauth2_utils.h"
#include "test/core/util/test_config.h"

namespace grpc {
namespace testing {
TestEnvironment::TestEnvironment(int*, char**) {}
TestEnvironment::~TestEnvironment() {}
}  // namespace testing
}  // namespace grpc

extern const char test_root_cert[] = "";
extern const char test_server1_cert[] = "";
extern const char test_server1_key[] = "";

char* grpc_test_fetch_oauth2_token_with_credentials(grpc_call_credentials*) { return nullptr; }
