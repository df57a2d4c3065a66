//! One `hotfire` process: started, awaited by its ready line, stopped or killed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

const READY_PATIENCE: Duration = Duration::from_secs(20);

pub struct Node {
    child: Child,
    ready: String,
    log: PathBuf,
}

impl Node {
    /// Starts `program args…` in `dir` (its logs go to `dir/LABEL.log`) and waits for the line that begins with `ready:`.
    ///
    /// # Errors
    /// When it ends or stays silent; the text holds the end of its log.
    pub fn start(program: &Path, label: &str, args: &[&str], dir: &Path) -> Result<Node> {
        let log = dir.join(format!("{label}.log"));
        let mut child = Command::new(program)
            .args(args)
            .current_dir(dir)
            .env("HOME", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::OpenOptions::new().create(true).append(true).open(&log)?)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let stdout = child.stdout.take().context("take the child's stdout")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut node = Node { child, ready: String::new(), log };
        loop {
            match lines.recv_timeout(READY_PATIENCE) {
                Ok(line) if line.starts_with("ready:") => {
                    node.ready = line;
                    // The reader thread must go on, or the child would meet a closed pipe.
                    std::thread::spawn(move || while lines.recv().is_ok() {});
                    return Ok(node);
                }
                Ok(_) => {}
                Err(_) => bail!("{label} printed no ready line; its log ends:\n{}", node.log_end()),
            }
        }
    }

    #[must_use]
    pub fn ready_line(&self) -> &str {
        &self.ready
    }

    /// The address behind `word` in the ready line: `namesrv ADDR`, `broker NAME [id N] ADDR`.
    #[must_use]
    pub fn address(&self, word: &str) -> Option<&str> {
        let words: Vec<&str> = self.ready.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        let at = words.iter().position(|found| *found == word)?;
        words[at + 1..].iter().copied().find(|found| found.contains(':'))
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: the process has no chance to do anything.
    ///
    /// # Errors
    /// Of the system.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, then waits for the ordered stop.
    ///
    /// # Errors
    /// When it has not ended after `patience`.
    pub fn stop(mut self, patience: Duration) -> Result<ExitStatus> {
        let status = crate::terminate(&mut self.child, patience)?;
        status.with_context(|| format!("the node did not stop; its log ends:\n{}", self.log_end()))
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_end(&self) -> String {
        crate::last_lines(&self.log, 20)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
