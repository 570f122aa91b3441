//! The stand-in as a program: prints one JSON line once it answers, and runs until SIGTERM or SIGINT.
//! Scripts read the counters from
//! `GET /standin/counters`.

mod arguments;

use std::io::{self, Write};
use std::process::ExitCode;

use gitlab_standin::{Certificate, Fixture, GitLab, Setup};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use arguments::Arguments;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = writeln!(io::stderr(), "gitlab-standin: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let setup = Setup::default().listen(arguments.listen).storage(arguments.storage);
    let mut setup = setup.relative_root(&arguments.root);
    if let Some(file) = &arguments.secure {
        let certificate = Certificate::self_signed(&["localhost"])?;
        std::fs::write(file, &certificate.der)?;
        setup = setup.tls(vec![certificate.der], certificate.key);
    }
    let gitlab = GitLab::start(setup).await?;
    let mut line = json!({ "url": gitlab.url(), "store_url": gitlab.store_url() });
    if let Some(address) = gitlab.tls_address() {
        gitlab.name_itself(&format!("https://localhost:{}", address.port()));
        merge(&mut line, json!({ "tls_url": gitlab.tls_url() }));
    }
    if arguments.fixture {
        let mut fixture = Fixture::install(&gitlab, arguments.jobs, arguments.archive_size)?;
        fixture.add_files(&gitlab, &arguments.archives)?;
        merge(&mut line, fixture.to_json());
    }
    writeln!(io::stdout(), "{line}")?;
    io::stdout().flush()?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn merge(line: &mut Value, more: Value) {
    if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
        line.extend(more);
    }
}
