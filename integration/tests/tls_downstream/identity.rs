//! Who a client is: who gets in, what the access log says of them, and what backends are told.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weir_integration::certificates::Authority;
use weir_integration::peers::backend::DO;
use weir_integration::peers::client::{Client, METHOD};
use weir_integration::peers::tls::Tls;

use super::{Secured, expect_call};

const HEADER: &str = "x-forwarded-client-cert";

/// `client_auth` with this authority, and further keys.
fn asking(how: &str, clients: &Authority, keys: &str) -> String {
    format!("client_auth: {how}, ca_file: {}, {keys}", clients.file().display())
}

/// A client that is turned away behind its handshake, as TLS 1.3 does it, or in it.
async fn expect_none(tls: &Tls, secured: &Secured) -> Result<()> {
    let called = async {
        let client = tls.connect(secured.address).await?;
        expect_call(&client).await
    };
    ensure!(called.await.is_err(), "a call went through");
    ensure!(secured.backend.seen().calls.is_empty(), "a call went through");
    Ok(())
}

/// The fields of the next line about a client.
fn logged(secured: &Secured) -> Result<Value> {
    let line = secured.gateway.process.wait_line("a record", |line| line.starts_with('{').then(|| line.to_owned()))?;
    let line: Value = serde_json::from_str(&line)?;
    Ok(json!([line["client_subject"], line["client_uri"], line["client_dns"]]))
}

/// What the backend was told in the last call.
fn told(secured: &Secured) -> Vec<String> {
    let seen = secured.backend.seen();
    let call = seen.calls.last().unwrap();
    call.metadata.get_all(HEADER).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn only_clients_of_the_authority_get_in() -> Result<()> {
    let clients = Authority::named("clients")?;
    let secured = Secured::start(&asking("required", &clients, ""), 1).await?;
    for version in ["1.2", "1.3"] {
        let strangers = Authority::named("strangers")?;
        let stranger = strangers.issue_client("mallory", "spiffe://mesh/alice", 1)?;
        let expired = clients.issue_expired(&["old.clients"])?;
        for own in [None, Some(&stranger), Some(&expired)] {
            expect_none(&Tls::of(&secured.authority, own, &[version])?, &secured).await?;
        }
    }
    secured.refused("no_certificate", 2.0).await?;
    secured.refused("unknown_ca", 2.0).await?;
    secured.refused("expired", 2.0).await?;
    let alice = clients.issue_client("alice", "spiffe://mesh/alice", 1)?;
    for version in ["1.2", "1.3"] {
        expect_call(&Tls::of(&secured.authority, Some(&alice), &[version])?.connect(secured.address).await?).await?;
        let expected = json!(["O=Weir\\, tests,CN=alice", "spiffe://mesh/alice", "alice.clients"]);
        let logged = logged(&secured)?;
        ensure!(logged == expected, "{logged}");
    }
    Ok(())
}

/// Who was known when a session began is known when it is resumed.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_session_that_is_resumed_keeps_its_client() -> Result<()> {
    let clients = Authority::named("clients")?;
    let secured = Secured::start(&asking("required", &clients, "forward_client_cert: {fields: [uri]}"), 1).await?;
    let alice = clients.issue_client("alice", "spiffe://mesh/alice", 1)?;
    let tls = Tls::known_as(&secured.authority, &alice)?;
    for resumed in [false, true] {
        let shaken = tls.shake(secured.address).await?;
        ensure!(shaken.is_resumed() == resumed);
        expect_call(&shaken.client().await?).await?;
        ensure!(told(&secured) == ["URI=spiffe://mesh/alice"]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_certificate_that_was_revoked_is_none() -> Result<()> {
    let clients = Authority::named("clients")?;
    let (alice, bob) = (clients.issue_client("alice", "spiffe://a", 1)?, clients.issue_client("bob", "spiffe://b", 2)?);
    let crl = clients.revoke(&[2])?;
    let keys = asking("required", &clients, &format!("crl_files: [{}]", crl.display()));
    let secured = Secured::start(&keys, 1).await?;
    expect_none(&Tls::known_as(&secured.authority, &bob)?, &secured).await?;
    secured.refused("revoked", 1.0).await?;
    expect_call(&Tls::known_as(&secured.authority, &alice)?.connect(secured.address).await?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_may_stay_unknown_where_it_is_asked_for_and_not_required() -> Result<()> {
    let clients = Authority::named("clients")?;
    let secured = Secured::start(&asking("optional", &clients, "forward_client_cert: {}"), 1).await?;
    let strangers = Authority::named("strangers")?;
    let stranger = strangers.issue_client("mallory", "spiffe://mesh/alice", 1)?;
    expect_none(&Tls::known_as(&secured.authority, &stranger)?, &secured).await?;
    secured.refused("unknown_ca", 1.0).await?;
    let unknown = Tls::believing(&secured.authority)?.connect(secured.address).await?;
    let claims = [(DO, "echo"), (HEADER, "URI=spiffe://mesh/alice"), (HEADER, "Hash=1")];
    ensure!(unknown.call(METHOD, &claims).await?.status() == Some(0));
    ensure!(told(&secured).is_empty(), "{:?}", told(&secured));
    ensure!(logged(&secured)? == json!([null, null, null]));

    let alice = clients.issue_client("alice", "spiffe://mesh/alice", 1)?;
    let known = Tls::known_as(&secured.authority, &alice)?.connect(secured.address).await?;
    ensure!(known.call(METHOD, &claims).await?.status() == Some(0));
    let told = told(&secured);
    let [told] = told.as_slice() else { anyhow::bail!("{told:?}") };
    let (hash, rest) = told.split_once(';').unwrap_or_default();
    ensure!(hash.len() == "Hash=".len() + 64 && hash.starts_with("Hash="), "{told}");
    let expected = r#"Subject="O=Weir\, tests,CN=alice";URI=spiffe://mesh/alice;DNS=alice.clients"#;
    ensure!(rest == expected, "{told}");
    Ok(())
}

/// Under a name that the file gives, and to clients in plaintext on the same port.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_client_says_itself_who_it_is() -> Result<()> {
    let clients = Authority::named("clients")?;
    let keys = "forward_client_cert: {header: X-Client, fields: [dns]}, allow_plaintext: true";
    let secured = Secured::start(&asking("optional", &clients, keys), 1).await?;
    let told = |secured: &Secured| {
        let seen = secured.backend.seen();
        seen.calls.last().unwrap().metadata.get("x-client").map(|value| value.to_str().unwrap().to_owned())
    };
    let claims = [(DO, "echo"), ("x-client", "DNS=alice")];
    let plain = Client::connect(secured.address).await?;
    ensure!(plain.call(METHOD, &claims).await?.status() == Some(0));
    ensure!(told(&secured).is_none(), "{:?}", told(&secured));
    let bob = clients.issue_client("bob", "spiffe://mesh/bob", 1)?;
    let known = Tls::known_as(&secured.authority, &bob)?.connect(secured.address).await?;
    ensure!(known.call(METHOD, &claims).await?.status() == Some(0));
    ensure!(told(&secured).as_deref() == Some("DNS=bob.clients"), "{:?}", told(&secured));
    Ok(())
}

/// Where nobody asks for it, the header is a client's like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_header_passes_where_the_file_does_not_speak_of_it() -> Result<()> {
    let secured = Secured::start("", 1).await?;
    let client = Tls::believing(&secured.authority)?.connect(secured.address).await?;
    ensure!(client.call(METHOD, &[(DO, "echo"), (HEADER, "By=a")]).await?.status() == Some(0));
    ensure!(told(&secured) == ["By=a"]);
    Ok(())
}
