//! Commands of `mqadmin` that only 5.x has: those that act, and those that a broker without what they are for refuses.
//!
//! Left out: `exportMetadataInRocksDB`, `rocksDBConfigToJson` and `dumpCompactionLog`, which read files of a broker that keeps
//! other ones, and ask nobody; `checkRocksdbCqWriteProgress`, whose answers go into a log.

use std::path::Path;

use anyhow::Result;

use super::{Admin, path};

/// By which word they are refused.
const REFUSED: [(&str, &str); 29] = [
    ("setConsumeMode -n {n} -b {b} -t Ops -g OpsGroup -m POP", "the mode POP is not supported"),
    ("setConsumeMode -n {n} -c DefaultCluster -t Ops -g OpsGroup -m POP", "the mode POP is not supported"),
    // Epochs and sets of copies in sync are a controller's, and there is none.
    ("getBrokerEpoch -n {n} -b broker-a", "request type 1007 not supported"),
    ("getSyncStateSet -n {n} -a {n} -b broker-a", "request type 1005 not supported"),
    ("electMaster -n {n} -a {n} -b 0 -c DefaultCluster -bn broker-a", "request type 1005 not supported"),
    (
        "cleanBrokerMetadata -n {n} -a {n} -bn broker-a -c DefaultCluster -l",
        "request type 1005 not supported",
    ),
    ("getControllerMetaData -a {n}", "request type 1005 not supported"),
    ("getControllerConfig -a {n}", "request type 1010 not supported"),
    ("updateControllerConfig -a {n} -k traceLevel -v 1", "request type 1009 not supported"),
    ("addBroker -c {b} -b nothing.conf", "request type 902 not supported"),
    ("removeBroker -c {b} -b DefaultCluster:broker-a:0", "request type 903 not supported"),
    // No access control.
    ("createUser -n {n} -b {b} -u someone -p secret", "request type 3001 not supported"),
    ("updateUser -n {n} -b {b} -u someone -p secret", "request type 3002 not supported"),
    ("deleteUser -n {n} -b {b} -u someone", "request type 3003 not supported"),
    ("getUser -n {n} -b {b} -u someone", "request type 3004 not supported"),
    ("listUser -n {n} -b {b}", "request type 3005 not supported"),
    ("copyUser -n {n} -f {b} -t {b} -u someone", "request type 3004 not supported"),
    ("createAcl -n {n} -b {b} -s User:someone -r Topic:* -a Pub -d Allow", "request type 3006 not supported"),
    ("updateAcl -n {n} -b {b} -s User:someone -r Topic:* -a Pub -d Allow", "request type 3007 not supported"),
    ("deleteAcl -n {n} -b {b} -s User:someone", "request type 3008 not supported"),
    ("getAcl -n {n} -b {b} -s User:someone", "request type 3009 not supported"),
    ("listAcl -n {n} -b {b}", "request type 3010 not supported"),
    ("copyAcl -n {n} -f {b} -t {b} -s User:someone", "request type 3009 not supported"),
    // No control over reads of what is no longer in memory.
    ("updateColdDataFlowCtrGroupConfig -n {n} -b {b} -g OpsGroup -v 100", "request type 2001 not supported"),
    ("removeColdDataFlowCtrGroupConfig -n {n} -b {b} -g OpsGroup", "request type 2002 not supported"),
    ("setCommitLogReadAheadMode -n {n} -b {b} -m 1", "request type 2004 not supported"),
    // No topics whose queues are mapped over brokers, and no records of pops.
    ("updateStaticTopic -n {n} -t Mapped -qn 4 -b broker-a", "request type 513 not supported"),
    ("remappingStaticTopic -n {n} -t Ops -b broker-a", "Mapping info should not be null"),
    ("exportPopRecord -n {n} -b {b} -d true", "request type 200056 not supported"),
];

const TOPICS: &str =
    r#"[{"topicName":"ListedA","readQueueNums":3,"writeQueueNums":3,"perm":6},{"topicName":"ListedB"}]"#;
const GROUPS: &str = r#"[{"groupName":"ListedGroupA","retryMaxTimes":5},{"groupName":"ListedGroupB"}]"#;

pub(super) fn commands(admin: &mut Admin, dir: &Path) -> Result<()> {
    lists(admin, dir)?;
    admin.holds(
        "setConsumeMode -n {n} -b {b} -t Ops -g OpsGroup -m PULL",
        &["set consume mode to {b} success.", "consume mode[PULL]"],
    )?;
    for of in ["-b {b}", "-c DefaultCluster"] {
        let status = ["#MasterAddr", "{b}", "#MasterCommitLogMaxOffset", "#SlaveNum", "#TransferSpeed(KB/s)"];
        admin.holds(&format!("haStatus -n {{n}} {of}"), &status)?;
    }
    admin.holds("getColdDataFlowCtrInfo -n {n} -b {b}", &["\"configTable\":{", "\"runtimeTable\":{"])?;
    admin.holds("resetMasterFlushOffset -n {n} -b {b} -o 0", &["reset master flush offset to 0 success"])?;
    for (command, why) in REFUSED {
        admin.refused(command, why)?;
    }
    Ok(())
}

/// Topics and groups that are made by a file of them.
fn lists(admin: &mut Admin, dir: &Path) -> Result<()> {
    for (name, file, text) in [("{topics}", "topics.json", TOPICS), ("{groups}", "groups.json", GROUPS)] {
        let file = dir.join(file);
        std::fs::write(&file, text)?;
        admin.name(name, path(&file)?);
    }
    admin.holds(
        "updateTopicList -n {n} -b {b} -f {topics}",
        &["submit batch of topic config to {b} success"],
    )?;
    admin.holds("topicRoute -n {n} -t ListedA", &["\"writeQueueNums\":3", "{b}"])?;
    admin.holds("topicRoute -n {n} -t ListedB", &["\"writeQueueNums\":16", "{b}"])?;
    admin.holds(
        "updateSubGroupList -n {n} -b {b} -f {groups}",
        &["submit batch of group config to {b} success"],
    )?;
    admin.holds(
        "getConsumerConfig -n {n} -g ListedGroupA",
        &["ListedGroupA", "retryMaxTimes                           =  5"],
    )?;
    admin.holds(
        "getConsumerConfig -n {n} -g ListedGroupB",
        &["ListedGroupB", "retryMaxTimes                           =  16"],
    )?;
    // By the cluster's name they print their usage, too, when they are done.
    admin
        .refused("updateTopicList -n {n} -c DefaultCluster -f {topics}", "submit batch of topic config to")?;
    admin.refused(
        "updateSubGroupList -n {n} -c DefaultCluster -f {groups}",
        "submit batch of subscription group config to",
    )
}
