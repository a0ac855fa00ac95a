//! Configurations that several tests share.

use std::net::SocketAddr;

/// One listener, `grpc`, that hands every call to the one endpoint `backend`; nothing else asked for.
#[must_use]
pub fn pass_all(backend: SocketAddr) -> String {
    format!(
        r#"
static_resources:
  listeners:
    - name: grpc
      protocol_type: GRPC
      address: {{socket_address: {{address: 127.0.0.1, port: 0}}}}
      filter_chains:
        filters:
          - name: dgp.filter.network.grpcconnectionmanager
            config:
              route_config:
                routes:
                  - match: {{prefix: "/"}}
                    route: {{cluster: backend}}
              grpc_filters:
                - name: dgp.filter.grpc.proxy
  clusters:
    - name: backend
      lb_policy: RoundRobin
      endpoints:
        - socket_address: {{address: 127.0.0.1, port: {port}}}
"#,
        port = backend.port()
    )
}
