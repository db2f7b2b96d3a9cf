//! Ctrl-C and SIGTERM, and the wish of a parent process that we end with it.

use std::io::Read;

use tokio_util::sync::CancellationToken;

/// A token that is cancelled on SIGINT or SIGTERM, and on the end of stdin when
/// `exit_with_parent` says that a parent holds its other side.
///
/// A second signal ends the process at once.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn shutdown(exit_with_parent: bool) -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let token = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let on_signal = token.clone();
    tokio::spawn(async move {
        let mut seen = 0;
        loop {
            let code = tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            };
            seen += 1;
            if seen > 1 {
                std::process::exit(code);
            }
            on_signal.cancel();
        }
    });
    if exit_with_parent {
        let on_end = token.clone();
        // A plain thread: a blocking read of stdin would hold the runtime's end.
        std::thread::spawn(move || {
            let mut buffer = [0_u8; 64];
            let mut stdin = std::io::stdin();
            while matches!(stdin.read(&mut buffer), Ok(count) if count > 0) {}
            on_end.cancel();
        });
    }
    Ok(token)
}
