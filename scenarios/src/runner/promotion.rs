//! Under load a master is lost for good, and a person makes its slave the master, in the order in which that is done: clients
//! stop, the slave's process ends, whichever way, and starts with the master's settings; clients start again; the old machine
//! is given a new disk, and becomes the slave of the other. From then on each of the two has the other's name here.

use std::time::Duration;

use super::{Phase, Run};
use crate::draw::Draw;
use crate::faults::strike::NEVER_STEP;
use crate::oracle::{replica, tables};
use crate::plan::names;
use crate::report::{Failure, VerdictKind};
use crate::witness::CONFIG;

impl Run {
    /// Answers how long it took, in ms. Nothing is done where the slave is not whole: it would not be taken.
    pub(super) async fn promote(&mut self) -> Result<u64, (VerdictKind, Failure)> {
        let (world, witness) = (self.cluster.world.clone(), self.cluster.witness.clone());
        let plan = self.cluster.plan.clone();
        let begun_ms = world.now_ms();
        let broker = names::brokers(&plan.settings).into_iter().next().expect("there is a broker");
        let slave = names::slave(&broker, 0);
        if !witness.has_heir(&broker) {
            return Ok(0);
        }
        let key = Draw::new(plan.seed).key("promotion", 0);
        self.striker.power_off(&broker);
        let clients = names::clients(&plan.settings);
        for client in clients.iter().filter(|client| world.is_running(self.cluster.node(client))) {
            world.stop(self.cluster.node(client));
        }
        self.wait_stopped(&clients).await?;
        world.sleep(Duration::from_millis(key.branch("person").range(2_000, 5_000))).await;
        // A trap that had sprung before may have brought the machine back.
        world.power_off(self.cluster.node(&broker));
        let power = self.end_slave(&slave, key.branch("end").range(0, 2)).await?;
        // What a loss of power has left is judged by what was confirmed.
        let before = (!power).then(|| witness.cached(&slave).1.log.end);
        self.cluster.nodes.swap(&broker, &slave);
        witness.swapped(&broker, &slave);
        let machine = self.cluster.node(&broker);
        if key.branch("start fails").percent(40) {
            world.crash_at_step(machine, key.branch("step").exponential(30));
        }
        world.restart(machine);
        self.wait_for(std::slice::from_ref(&broker), "has not become the master", |run, name| {
            run.cluster.witness.is_ready(name)
        })
        .await?;
        self.inherited(&broker, &slave, before)?;
        world.disk(self.cluster.node(&slave)).replace();
        witness.replaced(&slave);
        if key.branch("slave returns").percent(60) {
            self.striker.release(&slave);
        }
        clients.iter().for_each(|client| world.restart(self.cluster.node(client)));
        self.promoted = true;
        Ok(world.now_ms() - begun_ms)
    }

    /// The slave's process ends: in order, at once, or with its power. Whether that went.
    async fn end_slave(&mut self, slave: &str, how: u64) -> Result<bool, (VerdictKind, Failure)> {
        let (world, machine) = (self.cluster.world.clone(), self.cluster.node(slave));
        world.resume(machine);
        world.crash_at_step(machine, NEVER_STEP);
        match how {
            // One that has just died is asked nothing.
            0 if world.is_running(machine) => world.stop(machine),
            0 | 1 => world.crash(machine),
            _ => {
                self.cluster.witness.before_power_loss(slave);
                world.power_off(machine);
            }
        }
        self.wait_stopped(&[slave.to_owned()]).await?;
        Ok(how > 1)
    }

    /// The new master has recovered, and nothing was sent to it yet.
    fn inherited(&self, broker: &str, slave: &str, before: Option<u64>) -> Phase {
        let witness = &self.cluster.witness;
        let disk = witness.cached(broker).1;
        before
            .map_or(Ok(()), |before| replica::kept(slave, before, disk.log.end))
            .and_then(|()| witness.judge_heir(slave, &disk))
            .and_then(|()| tables::inherited(broker, &disk, &witness.durable(broker).0, CONFIG))
            .map_err(|broken| self.broken(broken))?;
        witness.inherited(broker, &disk);
        Ok(())
    }
}
