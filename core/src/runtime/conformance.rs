//! The contract of [`Runtime`] as tests: one suite, run on real files and sockets and on the simulated ones.
//!
//! A case is an async function that panics, with what it expected, when the runtime breaks its contract. The test crates
//! of both runtimes take the list from [`cases`] and run each entry on its own, in a fresh folder.
//!
//! Left out, since the runtimes differ in it on purpose: `fatal`, panics inside tasks, and everything that needs a
//! power loss or a broken disk; each runtime tests its own.
//!
//! Invariant: no case depends on another, on a free port of its choice, or on how long something takes; a wait has a
//! limit only so that a broken runtime ends in a message instead of a hang.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use super::Runtime;

mod network;
mod segment;
mod storage;
mod tasks;
mod time;

/// What may differ between the places in which the suite runs.
#[derive(Clone)]
pub struct Env<R> {
    /// The node that connects. Another node in simulation, the same runtime on real sockets.
    pub peer: R,
    /// The address of the node that listens, as `peer` reaches it.
    pub ip: IpAddr,
    /// An address that no node listens on as its own.
    pub foreign_ip: Option<IpAddr>,
    /// A name that resolves, and one of its addresses.
    pub known_host: (String, IpAddr),
    /// A name that does not resolve.
    pub unknown_host: Option<String>,
    /// More than what the buffers of one connection hold while the peer does not read.
    pub unread_bytes_max: usize,
    /// Whether reserving more than `disk_usage` reports as total meets a full disk.
    pub disk_is_bounded: bool,
    /// A folder of the case's own below the data folder; it need not exist.
    pub dir: String,
}

impl<R> Env<R> {
    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.dir)
    }
}

pub type CaseFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

pub struct Case<R: Runtime> {
    pub name: &'static str,
    run: fn(R, Env<R>) -> CaseFuture,
}

impl<R: Runtime> Case<R> {
    /// # Panics
    /// When the runtime breaks its contract.
    pub fn run(&self, rt: R, env: Env<R>) -> CaseFuture {
        (self.run)(rt, env)
    }
}

macro_rules! list {
    ($($module:ident: $($case:ident),+ $(,)?;)+) => {
        vec![$($(Case {
            name: concat!(stringify!($module), "::", stringify!($case)),
            run: |rt, env| Box::pin($module::$case(rt, env)),
        }),+),+]
    };
}

/// All cases.
#[must_use]
pub fn cases<R: Runtime>() -> Vec<Case<R>> {
    list! {
        time:
            monotonic_time_does_not_go_back,
            a_time_zone_is_less_than_a_day,
            a_sleep_is_never_short,
            a_deadline_that_has_passed_resolves_at_once,
            the_earlier_of_two_sleeps_comes_first,
            a_timeout_drops_what_it_cut_off,
            a_future_that_is_ready_beats_a_timeout_of_zero,
            a_deadline_beyond_all_time_never_comes;
        tasks:
            join_hands_over_the_result,
            abort_drops_the_task_and_join_says_so,
            abort_after_the_end_changes_nothing,
            a_dropped_handle_detaches,
            a_task_with_a_thread_is_a_task,
            abort_ends_a_task_with_a_thread,
            a_thread_does_storage_as_others_do,
            yield_lets_others_run,
            random_numbers_differ;
        network:
            a_connection_knows_both_its_addresses,
            port_zero_gives_each_listener_its_own,
            a_taken_address_is_in_use_until_the_listener_is_dropped,
            an_address_of_another_node_is_not_available,
            connect_is_refused_where_nobody_listens,
            connections_wait_for_accept,
            a_connection_outlives_its_listener,
            bytes_arrive_in_order_both_ways,
            a_read_takes_no_more_than_the_spare_capacity,
            try_read_would_block_when_nothing_is_there,
            chunks_of_one_buffer_arrive_joined,
            an_empty_write_writes_nothing,
            a_closed_peer_is_the_end_of_the_stream,
            after_a_shutdown_the_other_direction_goes_on,
            one_dropped_half_does_not_close,
            closing_with_unread_bytes_resets,
            writing_to_a_closed_peer_fails,
            a_peer_that_never_reads_makes_writes_wait,
            waits_can_be_given_up,
            names_and_literals_resolve;
        storage:
            folders_are_created_with_those_above,
            create_file_never_replaces,
            a_sized_file_has_its_length,
            a_sized_file_never_replaces_and_an_error_leaves_none,
            open_file_needs_a_file,
            a_file_opened_for_reading_refuses_writes,
            list_is_sorted_and_tells_folders,
            stat_tells_length_and_time,
            rename_replaces_and_handles_stay,
            remove_takes_the_name_only,
            only_empty_folders_are_removed,
            sync_dir_needs_a_folder,
            disk_usage_is_plausible,
            a_lock_excludes_until_dropped,
            a_read_past_the_end_is_an_unexpected_eof,
            a_write_grows_the_file_with_zeros,
            set_len_grows_with_zeros_and_cuts,
            a_reservation_meets_a_full_disk,
            a_file_flushes_any_range,
            a_redirtied_file_keeps_its_bytes;
        segment:
            open_segment_checks_file_and_position,
            a_segment_that_is_only_read_takes_no_appends,
            appends_are_seen_at_once_and_end_at_the_capacity,
            advance_publishes_what_is_there,
            views_show_published_bytes_only,
            views_are_buffers,
            segment_and_file_show_the_same_bytes,
            a_reopened_segment_has_its_bytes,
            a_segment_flushes_any_range,
            prefault_and_redirty_change_no_byte,
            truncate_waits_for_views_beyond,
            truncate_ignores_views_below,
            truncate_zeroes_to_the_end,
            truncate_goes_back_only,
            pooled_appends_are_seen_when_committed,
            pooled_appends_can_be_cut,
            a_removed_segment_lives_on_in_its_views,
            live_views_are_counted;
    }
}

/// Far longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Long enough for what is going to happen to have happened, where the test is that it does not.
const QUIET: Duration = Duration::from_millis(50);

async fn within<R: Runtime, F>(rt: &R, what: &str, future: F) -> F::Output
where
    F: Future + Send,
    F::Output: Send,
{
    rt.timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"))
}

/// Bytes that differ at each place and in each stretch.
fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (seed..seed + len).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8 ^ 0x5a).collect()
}

#[track_caller]
fn expect_kind<T>(result: std::io::Result<T>, kind: std::io::ErrorKind, what: &str) {
    match result {
        Ok(_) => panic!("{what}: expected {kind:?}, got success"),
        Err(error) => assert_eq!(error.kind(), kind, "{what}: {error}"),
    }
}
