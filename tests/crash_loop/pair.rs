//! A SYNC_MASTER and its slave, killed under load, and what each of the two has afterwards.
//!
//! A round ends with the death of the master; its slave lives on, dies with it, or has died and come back before. What was
//! answered SEND_OK is on both; what was acknowledged otherwise, or did not wait, is on the master, which loses nothing by the
//! death of its process. Where the slave lives on, it may become the master, by a copy of its folder for the one that was:
//! then what only the old master had is gone for good.
//!
//! At the end of each round both have the same messages at the same places.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hotfire_tests::Node;

use crate::ledger::{Copies, MayLose, Place};
use crate::load::{self, Book, mix};
use crate::{SETTINGS, stop};

/// A new slave copies the tables of its master 3 s after its start, and then each 10 s.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(30);
const LOAD: Duration = Duration::from_millis(200);
const LOAD_DRAWN_MS: u64 = 1_800;

/// What the rounds came to.
#[derive(Default)]
pub struct Figures {
    pub kills_of_masters: u64,
    pub kills_of_slaves: u64,
    pub promotions: u64,
    pub in_both: usize,
    pub in_master: usize,
    /// Acknowledged by an old master alone and gone with it.
    pub lost: usize,
    /// The longest time from the kill of a master to the first answer of its slave to a reader.
    pub reads_after: Duration,
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} kills of masters and {} of slaves under load, {} promotions; {} messages acknowledged by both and {} by the master, \
             {} of these gone with an old master; a slave served reads {} ms after its master's death at the latest",
            self.kills_of_masters,
            self.kills_of_slaves,
            self.promotions,
            self.in_both,
            self.in_master,
            self.lost,
            self.reads_after.as_millis()
        )
    }
}

pub struct Pair<'a> {
    pub settings: &'static str,
    pub program: &'a Path,
    pub dir: &'a Path,
    pub seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dies {
    Master,
    /// First; the load goes on without it for so long, and then the master dies too.
    SlaveFirst(Duration),
    /// And it comes back under load before the master dies.
    SlaveAndReturns,
}

/// The places of the two, each with a folder of its own.
struct Seats {
    dirs: [PathBuf; 2],
    ports: [u16; 2],
    /// Which of them is the master.
    master: usize,
}

impl Pair<'_> {
    /// # Errors
    /// The first broken promise, or a broker that does not start, stop or follow.
    pub async fn live(&self, kills: u64, figures: &mut Figures) -> Result<()> {
        let name_server =
            Node::start(self.program, "namesrv", &["namesrv", "--listen", "127.0.0.1:0"], self.dir)?;
        let address = name_server.address("namesrv").context("the name server's address")?;
        let mut seats = Seats::new(self.dir)?;
        let book = Book::new(Copies::One);
        let mut brokers = self.start_both(&seats, address)?;
        for kill in 0..kills {
            let round = self.round(kill, brokers, &mut seats, address, &book, figures).await;
            brokers = round.with_context(|| format!("kill {kill}"))?;
        }
        let (master, slave) = brokers;
        stop(slave)?;
        stop(master)?;
        stop(name_server)?;
        let ledger = book.ledger();
        let (in_both, in_master) =
            (ledger.acknowledgements(Copies::All), ledger.acknowledgements(Copies::One));
        ensure!(in_both > 0 && in_master > 0, "acknowledged: {in_both} in both, {in_master} in the master");
        figures.in_both += in_both;
        figures.in_master += in_master;
        Ok(())
    }

    async fn round(
        &self,
        kill: u64,
        (master, slave): (Node, Node),
        seats: &mut Seats,
        name_server: &str,
        book: &Book,
        figures: &mut Figures,
    ) -> Result<(Node, Node)> {
        let draw = |what: u64, below: u64| mix(self.seed ^ (kill << 8) ^ what) % below;
        let master_address = address(&master)?;
        let ends = followed(&master_address, &address(&slave)?, book).await?;
        let writers = load::start_writers(&master_address, book);
        let reader = tokio::spawn(load::read_along(address(&slave)?, book.clone(), ends));
        tokio::time::sleep(LOAD + Duration::from_millis(draw(1, LOAD_DRAWN_MS))).await;
        let dies = match draw(2, 4) {
            0 => Dies::SlaveFirst(Duration::from_micros(draw(3, 1_000_000))),
            1 => Dies::SlaveAndReturns,
            _ => Dies::Master,
        };
        let mut survivor = match dies {
            Dies::Master => Some(slave),
            Dies::SlaveFirst(before) => {
                slave.kill()?;
                figures.kills_of_slaves += 1;
                tokio::time::sleep(before).await;
                None
            }
            Dies::SlaveAndReturns => {
                slave.kill()?;
                figures.kills_of_slaves += 1;
                let slave = self.start(seats, 1 - seats.master, name_server)?;
                load::until_all_copies(&master_address, book, FOLLOWS_WITHIN).await?;
                Some(slave)
            }
        };
        let (killed_at, death) = (book.now(), Instant::now());
        master.kill()?;
        figures.kills_of_masters += 1;
        if let Some(slave) = &survivor {
            load::first_answer(&address(slave)?).await?;
            figures.reads_after = figures.reads_after.max(death.elapsed());
        }
        for writer in writers {
            writer.await.context("a writer")??;
        }
        if let Some(slave) = &survivor {
            let found = load::read_all(&address(slave)?).await?;
            let kept = book.ledger().check(&found, killed_at, MayLose::OneCopy);
            kept.context("on the slave, when its master was dead")?;
        }
        let mut may_lose = MayLose::Nothing;
        if draw(4, 2) == 0
            && let Some(slave) = survivor.take()
        {
            stop(slave)?;
            seats.promote()?;
            figures.promotions += 1;
            may_lose = MayLose::OneCopy;
        }
        let master = self.start(seats, seats.master, name_server)?;
        let found = load::read_all(&address(&master)?).await?;
        let cost = book.ledger().judge(&found, killed_at, may_lose).context("on the master")?;
        figures.lost += cost.lost;
        let slave = match survivor {
            Some(slave) => slave,
            None => self.start(seats, 1 - seats.master, name_server)?,
        };
        // The reader beside the slave ends with it: it lives on where nothing has killed it.
        reader.abort();
        match reader.await {
            Ok(seen) => seen?,
            Err(ended) => ensure!(ended.is_cancelled(), "the reader failed: {ended}"),
        }
        Ok((master, slave))
    }

    fn start_both(&self, seats: &Seats, name_server: &str) -> Result<(Node, Node)> {
        let master = self.start(seats, seats.master, name_server)?;
        Ok((master, self.start(seats, 1 - seats.master, name_server)?))
    }

    fn start(&self, seats: &Seats, seat: usize, name_server: &str) -> Result<Node> {
        let (dir, port) = (&seats.dirs[seat], seats.ports[seat]);
        let (role, id) = if seat == seats.master { ("SYNC_MASTER", 0) } else { ("SLAVE", 1) };
        let settings = format!(
            "{SETTINGS}{}brokerName=broker-a\nbrokerRole={role}\nbrokerId={id}\n\
             brokerIP2=127.0.0.1\nhaListenPort={}\nslaveReadEnable=true\n",
            self.settings,
            port + 1
        );
        std::fs::write(dir.join("broker.conf"), settings)?;
        let listen = format!("127.0.0.1:{port}");
        let words = ["broker", "-c", "broker.conf", "-n", name_server, "--listen", &listen, "--data", "data"];
        Node::start(self.program, "broker", &words, dir).with_context(|| format!("start the {role}"))
    }
}

impl Seats {
    fn new(dir: &Path) -> Result<Seats> {
        let dirs = ["a", "b"].map(|name| dir.join(name));
        dirs.iter().try_for_each(std::fs::create_dir)?;
        Ok(Seats { dirs, ports: [hotfire_tests::free_ports()?, hotfire_tests::free_ports()?], master: 0 })
    }

    /// The slave becomes the master, and the folder of the one that was a copy of its own.
    fn promote(&mut self) -> Result<()> {
        let (old, new) = (self.dirs[self.master].join("data"), self.dirs[1 - self.master].join("data"));
        std::fs::remove_dir_all(&old).context("remove the old master's folder")?;
        copy(&new, &old).context("copy the slave's folder")?;
        self.master = 1 - self.master;
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

fn address(broker: &Node) -> Result<String> {
    Ok(broker.address("broker").context("the broker's address")?.to_owned())
}

/// Waits until the slave has all that its master has, which it must. Gives the end of each queue.
async fn followed(master: &str, slave: &str, book: &Book) -> Result<BTreeMap<i32, i64>> {
    load::until_all_copies(master, book, FOLLOWS_WITHIN).await?;
    let wanted = load::read_all(master).await?;
    let start = Instant::now();
    loop {
        let found = load::read_all(slave).await?;
        if found == wanted {
            break;
        }
        let differs: Option<&Place> = found.keys().find(|place| found.get(place) != wanted.get(place));
        ensure!(differs.is_none(), "master and slave have different messages at {differs:?}");
        ensure!(
            start.elapsed() < FOLLOWS_WITHIN,
            "the slave has {} messages of {} after {FOLLOWS_WITHIN:?}",
            found.len(),
            wanted.len()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(load::ends(&wanted))
}
