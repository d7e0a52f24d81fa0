//! How processes look in `{:?}`: as in Python, `<Process name='Process-2' pid=12 parent=10 stopped exitcode=-SIGTERM>`.

use crate::current_process;
use procession_actors::process::Options;
use procession_ipc::child::{ExitStatus, signal_name};
use std::fmt;

/// What is shown of a process.
pub(crate) struct Repr<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) pid: Option<u32>,
    pub(crate) parent: Option<u32>,
    pub(crate) state: State,
    pub(crate) is_daemon: bool,
}

/// Where a process is in its life.
#[derive(Debug, Clone, Copy)]
pub(crate) enum State {
    /// It is described, and has not been started.
    Initial,
    Started,
    Stopped(ExitStatus),
    Closed,
    /// The handle was made by another process.
    Unknown,
}

impl<'a> Repr<'a> {
    /// A process that has not been started, and shall be like this.
    pub(crate) fn initial(options: &'a Options) -> Self {
        let own = current_process();
        let is_daemon = options.daemon.unwrap_or(own.is_daemon());
        Self {
            name: options.name.as_deref(),
            pid: None,
            parent: Some(own.pid()),
            state: State::Initial,
            is_daemon,
        }
    }
}

impl fmt::Display for Repr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<Process")?;
        if let Some(name) = self.name {
            write!(f, " name='{}'", name.escape_debug())?;
        }
        if let Some(pid) = self.pid {
            write!(f, " pid={pid}")?;
        }
        match self.parent {
            Some(parent) => write!(f, " parent={parent}")?,
            None => f.write_str(" parent=None")?,
        }
        write!(f, " {}", self.state)?;
        if self.is_daemon {
            f.write_str(" daemon")?;
        }
        f.write_str(">")
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Initial => f.write_str("initial"),
            Self::Started => f.write_str("started"),
            Self::Closed => f.write_str("closed"),
            Self::Unknown => f.write_str("unknown"),
            Self::Stopped(ExitStatus::Exited(code)) => write!(f, "stopped exitcode={code}"),
            Self::Stopped(ExitStatus::Signaled { signal, .. }) => match signal_name(signal) {
                Some(name) => write!(f, "stopped exitcode=-{name}"),
                None => write!(f, "stopped exitcode=-{signal}"),
            },
            Self::Stopped(_) => f.write_str("stopped exitcode=unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_look_as_in_python() {
        let full = |state, is_daemon| {
            Repr { name: Some("it's"), pid: Some(7), parent: Some(3), state, is_daemon }.to_string()
        };
        let signaled = |signal| State::Stopped(ExitStatus::Signaled { signal, core_dumped: false });
        let table = [
            (full(State::Started, true), "<Process name='it\\'s' pid=7 parent=3 started daemon>"),
            (
                full(State::Stopped(ExitStatus::Exited(1)), false),
                "<Process name='it\\'s' pid=7 parent=3 stopped exitcode=1>",
            ),
            (full(signaled(15), false), "<Process name='it\\'s' pid=7 parent=3 stopped exitcode=-SIGTERM>"),
            (full(signaled(40), false), "<Process name='it\\'s' pid=7 parent=3 stopped exitcode=-40>"),
            (
                Repr { name: None, pid: None, parent: None, state: State::Initial, is_daemon: false }
                    .to_string(),
                "<Process parent=None initial>",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(text, expected);
        }
    }
}
