//! Active health checks, once a process, on the control runtime.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use weir_filter::Code;

use super::{Cluster, Endpoint};
use crate::config::plan::{HealthCheck, Probe};

/// The checks of one endpoint. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Checks {
    tasks: Vec<AbortHandle>,
}

impl Drop for Checks {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Starts the cluster's checks of one endpoint, on the current runtime. It is up when all of them say so.
pub(crate) fn watch(cluster: &Arc<Cluster>, endpoint: &Arc<Endpoint>) -> Checks {
    let checks = &cluster.plan.health_checks;
    let verdicts = Arc::new(std::sync::Mutex::new(vec![true; checks.len()]));
    let tasks = checks
        .iter()
        .enumerate()
        .map(|(at, check)| {
            let (cluster, endpoint, check, verdicts) =
                (cluster.clone(), endpoint.clone(), check.clone(), verdicts.clone());
            let report = move |cluster: &Cluster, endpoint: &Endpoint, up: bool, why: &str| {
                let all_up = {
                    let mut verdicts = verdicts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    verdicts[at] = up;
                    verdicts.iter().all(|up| *up)
                };
                if cluster.set_health(endpoint, all_up) {
                    let (cluster, endpoint) = (&cluster.plan.name, &endpoint.label);
                    if all_up {
                        tracing::info!(%cluster, %endpoint, "endpoint up");
                    } else {
                        tracing::warn!(%cluster, %endpoint, why, "endpoint down");
                    }
                }
            };
            tokio::spawn(run(cluster, endpoint, check, report)).abort_handle()
        })
        .collect();
    Checks { tasks }
}

async fn run(
    cluster: Arc<Cluster>,
    endpoint: Arc<Endpoint>,
    check: HealthCheck,
    report: impl Fn(&Cluster, &Endpoint, bool, &str),
) {
    let mut streak = Streak::new(&check);
    let mut probe = Prober::new(&check.probe, &endpoint);
    loop {
        let result = match timeout(check.timeout, probe.ask()).await {
            Ok(result) => result,
            Err(_) => {
                // The connection may be that of a machine that died without a word, and would never answer again.
                probe = Prober::new(&check.probe, &endpoint);
                Err(format!("no answer in {:?}", check.timeout))
            }
        };
        if let Some(up) = streak.count(result.is_ok()) {
            report(&cluster, &endpoint, up, result.err().as_deref().unwrap_or_default());
        }
        tokio::time::sleep(jittered(check.interval)).await;
    }
}

/// Checks of many endpoints that began together spread over a tenth of their interval.
fn jittered(interval: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let tenth = interval.as_nanos() as u64 / 10;
    interval + Duration::from_nanos(if tenth == 0 { 0 } else { RandomState::new().hash_one(0) % tenth })
}

/// Counts answers of one kind in a row against the thresholds.
#[derive(Debug)]
struct Streak {
    up: bool,
    against: u32,
    healthy_threshold: u32,
    unhealthy_threshold: u32,
}

impl Streak {
    /// An endpoint begins as up: traffic does not wait for the first check.
    fn new(check: &HealthCheck) -> Streak {
        Streak {
            up: true,
            against: 0,
            healthy_threshold: check.healthy_threshold,
            unhealthy_threshold: check.unhealthy_threshold,
        }
    }

    /// The new verdict, when this answer changes it.
    fn count(&mut self, good: bool) -> Option<bool> {
        if good == self.up {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let threshold = if self.up { self.unhealthy_threshold } else { self.healthy_threshold };
        if self.against < threshold {
            return None;
        }
        self.against = 0;
        self.up = good;
        Some(good)
    }
}

enum Prober {
    Tcp(Arc<Endpoint>),
    /// Without a client, and with the reason, where the endpoint's address makes no URI.
    Grpc {
        client: Result<HealthClient<Channel>, String>,
        service: String,
    },
}

impl Prober {
    fn new(probe: &Probe, endpoint: &Arc<Endpoint>) -> Prober {
        match probe {
            Probe::Tcp => Prober::Tcp(endpoint.clone()),
            Probe::Grpc { service_name } => {
                let uri = http::Uri::builder().scheme("http").authority(&*endpoint.label).path_and_query("/").build();
                let client = uri
                    .map(|uri| HealthClient::new(Channel::builder(uri).connect_lazy()))
                    .map_err(|error| format!("{} cannot be asked: {error}", endpoint.label));
                Prober::Grpc { client, service: service_name.clone() }
            }
        }
    }

    async fn ask(&mut self) -> Result<(), String> {
        match self {
            Prober::Tcp(endpoint) => {
                TcpStream::connect(endpoint.address).await.map(drop).map_err(|error| error.to_string())
            }
            Prober::Grpc { client, service } => {
                let request = HealthCheckRequest { service: service.clone() };
                let client = client.as_mut().map_err(|error| error.clone())?;
                let answer = client.check(request).await.map_err(|status| reason(&status))?.into_inner();
                match answer.status() {
                    ServingStatus::Serving => Ok(()),
                    other => Err(other.as_str_name().to_owned()),
                }
            }
        }
    }
}

/// Why a check failed, in a line: the root of it where there was no answer, else what the backend said.
fn reason(status: &Status) -> String {
    match std::iter::successors(status.source(), |error| (**error).source()).last() {
        Some(root) => root.to_string(),
        None => {
            let code = Code::from_number(status.code() as u8).map_or("status", Code::name);
            format!("{code} {}", status.message()).trim_end().to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddrV6};

    use super::*;

    #[tokio::test]
    async fn an_address_with_a_scope_can_be_asked() {
        let address = SocketAddrV6::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), 1, 0, 2);
        let endpoint = Arc::new(Endpoint::new(
            crate::cluster::Found { address: address.into(), weight: 1, name: None, server_name: None },
            1,
        ));
        let probe = Prober::new(&Probe::Grpc { service_name: String::new() }, &endpoint);
        assert!(matches!(probe, Prober::Grpc { client: Ok(_), .. }));
    }

    #[test]
    fn thresholds_count_answers_in_a_row() {
        let mut streak = Streak { up: true, against: 0, healthy_threshold: 2, unhealthy_threshold: 3 };
        let answers = [false, false, true, false, false, false, true, false, true, true];
        let changes: Vec<_> = answers.into_iter().map(|good| streak.count(good)).collect();
        let mut expected = [None; 10];
        expected[5] = Some(false);
        expected[9] = Some(true);
        assert_eq!(changes, expected);
    }

    #[test]
    fn a_reason_is_the_root_of_it_or_what_the_backend_said() {
        let answered = Status::unimplemented("unknown service");
        assert_eq!(reason(&answered), "UNIMPLEMENTED unknown service");
        assert_eq!(reason(&Status::unavailable("")), "UNAVAILABLE");
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let wrapped = std::io::Error::other(std::io::Error::other(refused));
        assert_eq!(reason(&Status::from_error(Box::new(wrapped))), "connection refused");
    }
}
