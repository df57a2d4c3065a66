//! The simulated TCP against a model: what is read is what was written, in order, within the buffers, whatever the wire does.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use hotfire_core::runtime::network::Network;
use hotfire_core::runtime::{Listener, ReadHalf, Runtime, WriteHalf};
use hotfire_sim::network::{NetworkConfig, ResolverFault, SimRead, SimWrite};
use hotfire_sim::{Limits, NodeId, SimRuntime, World, run_seed};
use proptest::prelude::*;

const PORT: u16 = 10_911;

struct Pair {
    world: World,
    nodes: [NodeId; 2],
    client: (SimRead, SimWrite),
    server: (SimRead, SimWrite),
}

fn idle_nodes(world: &World) -> [NodeId; 2] {
    ["a", "b"].map(|name| {
        let node = world.add_node(name, [10, 0, 0, world.node_count() as u8 + 1]);
        world.boot(node, |_rt: SimRuntime| std::future::pending::<()>());
        node
    })
}

fn address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], PORT))
}

async fn pair(world: World) -> Pair {
    let nodes = idle_nodes(&world);
    let [a, b] = nodes.map(|node| world.runtime(node).expect("runs"));
    let mut listener = b.listen(address()).await.expect("listens");
    let client = a.connect(address()).await.expect("connects");
    let (read, write, _) = listener.accept().await.expect("accepts");
    Pair { world, nodes, client, server: (read, write) }
}

#[derive(Clone, Debug)]
enum Op {
    Write(usize),
    Read(usize),
    Wait(u64),
    Cut { back: bool },
    Heal,
    Latency(u64),
    Loss(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => prop_oneof![1..100usize, 1..200_000usize].prop_map(Op::Write),
        6 => prop_oneof![1..100usize, 1..200_000usize].prop_map(Op::Read),
        6 => prop_oneof![0..2_000u64, 0..5_000_000u64].prop_map(Op::Wait),
        1 => any::<bool>().prop_map(|back| Op::Cut { back }),
        2 => Just(Op::Heal),
        1 => (0..50_000_000u64).prop_map(Op::Latency),
        1 => (0..60u8).prop_map(Op::Loss),
    ]
}

/// Byte number `n` of the stream.
fn byte(n: u64) -> u8 {
    (n ^ (n >> 8) ^ (n >> 16)) as u8
}

async fn the_stream_follows_the_model(world: World, ops: Vec<Op>) {
    let Pair { world, nodes: [a, b], client: (_keep, mut write), server: (mut read, _also) } =
        pair(world).await;
    let buffers = (NetworkConfig::default().send_buffer + NetworkConfig::default().receive_buffer) as u64;
    let (mut written, mut seen) = (0u64, 0u64);
    let check = |buf: &[u8], seen: &mut u64| {
        for (index, got) in buf.iter().enumerate() {
            assert_eq!(*got, byte(*seen + index as u64), "byte {}", *seen + index as u64);
        }
        *seen += buf.len() as u64;
    };
    for op in ops {
        match op {
            Op::Write(len) => {
                let bytes: Vec<u8> = (written..written + len as u64).map(byte).collect();
                let mut rest = &bytes[..];
                match write.try_write(&mut rest) {
                    Ok(count) => {
                        assert!(count > 0 && count == len - rest.remaining());
                        written += count as u64;
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
            Op::Read(len) => {
                let mut buf = BytesMut::with_capacity(len);
                match read.try_read(&mut buf) {
                    Ok(count) => {
                        assert!(count > 0 && count == buf.len());
                        check(&buf, &mut seen);
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
            Op::Wait(micros) => world.sleep(Duration::from_micros(micros)).await,
            Op::Cut { back: false } => world.network().cut_one_way(a, b),
            Op::Cut { back: true } => world.network().cut_one_way(b, a),
            Op::Heal => world.network().heal_all(),
            Op::Latency(ns) => world.network().change(a, b, |link| link.latency_ns = ns),
            Op::Loss(percent) => world.network().change(a, b, |link| link.loss = f64::from(percent) / 100.0),
        }
        assert!(seen <= written, "bytes came out of nothing");
        assert!(written - seen <= buffers, "{} bytes between writer and reader", written - seen);
    }
    // Once healed, all of it comes, and then the end. A write may have outlived the user timeout only if it was cut for long.
    world.network().calm();
    write.shutdown().await.expect("shuts down");
    let mut buf = BytesMut::with_capacity(1 << 16);
    loop {
        match read.read_buf(&mut buf).await.expect("reads") {
            0 => break,
            _ => check(&buf.split(), &mut seen),
        }
    }
    assert_eq!(seen, written, "all bytes and then the end");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_is_fifo_bounded_and_complete(
        seed in any::<u64>(),
        ops in proptest::collection::vec(op(), 1..80),
    ) {
        let scenario = move |world: World| async move {
            // No cut here is to end in a timeout: that is tested apart.
            world.network().configure(|config| config.user_timeout_ns = u64::MAX / 4);
            the_stream_follows_the_model(world, ops).await;
        };
        run_seed(seed, Limits::default(), scenario).expect_finished();
    }
}

fn for_seeds<F>(scenario: fn(World) -> F)
where
    F: Future<Output = ()> + 'static,
{
    for seed in 0..10 {
        run_seed(seed, Limits::default(), scenario).expect_finished();
    }
}

/// Writes until an error comes; its kind and when, in ms of true time.
async fn first_write_error(world: &World, write: &mut SimWrite) -> (ErrorKind, u64) {
    loop {
        if let Err(error) = write.write_all(&b"anybody there?"[..]).await {
            return (error.kind(), world.now_ms());
        }
        world.sleep(Duration::from_millis(500)).await;
    }
}

#[test]
fn a_peer_without_power_is_silent_until_it_is_back_and_then_resets() {
    for_seeds(|world| async move {
        let Pair { world, nodes: [_, b], client: (mut read, mut write), server: _server } = pair(world).await;
        world.power_off(b);
        let mut buf = BytesMut::new();
        let rt = world.runtime(NodeId(0)).expect("runs");
        let heard = rt.timeout(Duration::from_secs(20), read.read_buf(&mut buf)).await;
        assert!(heard.is_err(), "a dead host said {heard:?}");
        write.write_all(&b"hello?"[..]).await.expect("the buffer takes it");
        world.sleep(Duration::from_secs(5)).await;
        world.restart(b);
        let error = read.read_buf(&mut buf).await.expect_err("the new kernel knows of no such connection");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_peer_that_stays_silent_times_the_sender_out_and_never_the_receiver() {
    for_seeds(|world| async move {
        let Pair { world, nodes: [a, b], client: (_r, mut write), server: (mut read, _w) } =
            pair(world).await;
        world.network().cut(a, b);
        let start = world.now_ms();
        let (kind, at) = first_write_error(&world, &mut write).await;
        assert_eq!(kind, ErrorKind::TimedOut);
        assert!((60_000..75_000).contains(&(at - start)), "after {} ms", at - start);
        let rt = world.runtime(b).expect("runs");
        let mut buf = BytesMut::new();
        assert!(rt.timeout(Duration::from_secs(100), read.read_buf(&mut buf)).await.is_err());
    });
}

#[test]
fn without_acknowledgements_bytes_arrive_and_the_sender_times_out() {
    for_seeds(|world| async move {
        let Pair { world, nodes: [a, b], client: (_r, mut write), server: (mut read, _w) } =
            pair(world).await;
        world.network().cut_one_way(b, a);
        write.write_all(&b"heard"[..]).await.expect("the buffer takes it");
        let mut buf = BytesMut::new();
        while buf.len() < 5 {
            read.read_buf(&mut buf).await.expect("reads");
        }
        let (kind, _) = first_write_error(&world, &mut write).await;
        assert_eq!(kind, ErrorKind::TimedOut);
    });
}

#[test]
fn a_killed_peer_ends_the_stream_or_resets_it_when_it_had_not_read_all() {
    for_seeds(|world| async move {
        let Pair { world, nodes: [_, b], client: (mut read, mut write), server: _server } = pair(world).await;
        let unread = world.draws("unread", 0).chance(0.5);
        if unread {
            write.write_all(&b"never read"[..]).await.expect("writes");
            world.sleep(Duration::from_secs(1)).await;
        }
        world.crash(b);
        let mut buf = BytesMut::new();
        match read.read_buf(&mut buf).await {
            Ok(count) => assert!(count == 0 && !unread),
            Err(error) => assert!(error.kind() == ErrorKind::ConnectionReset && unread),
        }
        let (kind, _) = first_write_error(&world, &mut write).await;
        assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind:?}");
    });
}

#[test]
fn a_connect_across_a_cut_hangs_and_goes_through_when_healed_or_times_out() {
    for_seeds(|world| async move {
        let [a, b] = idle_nodes(&world);
        let rt = world.runtime(a).expect("runs");
        let _listener = world.runtime(b).expect("runs").listen(address()).await.expect("listens");
        if world.draws("one way", 0).chance(0.5) {
            world.network().cut_one_way(b, a);
        } else {
            world.network().cut(a, b);
        }
        assert!(rt.timeout(Duration::from_secs(20), rt.connect(address())).await.is_err());
        let start = world.now_ms();
        let error = rt.connect(address()).await.map(|_| ()).expect_err("nobody hears it");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!((126_000..130_000).contains(&(world.now_ms() - start)));
        let connecting = rt.connect(address());
        let healing = async {
            world.sleep(Duration::from_secs(5)).await;
            world.network().heal_all();
            std::future::pending::<()>().await;
        };
        let connected = hotfire_core::select! {
            connected = connecting => connected,
            () = healing => unreachable!("it waits for ever"),
        };
        connected.expect("the next SYN arrives");
    });
}

#[test]
fn refusals_unknown_addresses_and_a_full_backlog_differ() {
    for_seeds(|world| async move {
        let [a, b] = idle_nodes(&world);
        let rt = world.runtime(a).expect("runs");
        let connect = |to: SocketAddr| rt.timeout(Duration::from_secs(10), rt.connect(to));
        let refused = connect(address()).await.expect("at once").map(|_| ()).expect_err("nobody listens");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let unknown = SocketAddr::from(([10, 9, 9, 9], PORT));
        let unknown = connect(unknown).await.expect("in 3 s").map(|_| ()).expect_err("nobody there");
        assert_eq!(unknown.kind(), ErrorKind::HostUnreachable);
        let mut listener = world.runtime(b).expect("runs").listen(address()).await.expect("listens");
        world.network().refuse_connects(b);
        let refused = connect(address()).await.expect("at once").map(|_| ()).expect_err("a fault");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        world.network().accept_connects(b);
        let mut kept = Vec::new();
        while let Ok(connected) = connect(address()).await {
            kept.push(connected.expect("connects"));
            assert!(kept.len() < 1_000, "the backlog has no end");
        }
        listener.accept().await.expect("accepts");
        world.sleep(Duration::from_secs(2)).await;
        connect(address()).await.expect("there is room again").expect("connects");
    });
}

#[test]
fn loopback_works_without_the_network() {
    for_seeds(|world| async move {
        let [a, b] = idle_nodes(&world);
        world.network().cut(a, b);
        let rt = world.runtime(b).expect("runs");
        let mut listener = rt.listen(SocketAddr::from(([0, 0, 0, 0], PORT))).await.expect("listens");
        for ip in [[127, 0, 0, 1], [10, 0, 0, 2]] {
            let (mut read, _w) = rt.connect(SocketAddr::from((ip, PORT))).await.expect("connects");
            let (_r, mut write, peer) = listener.accept().await.expect("accepts");
            assert_eq!(peer.ip(), std::net::IpAddr::from(ip));
            write.write_all(Bytes::from_static(b"x")).await.expect("writes");
            let mut buf = BytesMut::new();
            assert_eq!(read.read_buf(&mut buf).await.expect("reads"), 1);
        }
    });
}

#[test]
fn a_resolver_that_fails_says_so_and_one_that_hangs_times_out() {
    for_seeds(|world| async move {
        let [a, _b] = idle_nodes(&world);
        let rt = world.runtime(a).expect("runs");
        assert_eq!(rt.resolve("b", PORT).await.expect("a node's name"), [address()]);
        world.network().set_name("brokers", vec![[10, 0, 0, 2].into(), [10, 0, 0, 7].into()]);
        assert_eq!(rt.resolve("brokers", 1).await.expect("a name of the table").len(), 2);
        world.network().set_resolver(a, Some(ResolverFault::NotFound));
        assert_eq!(rt.resolve("b", PORT).await.expect_err("broken").kind(), ErrorKind::NotFound);
        assert_eq!(rt.resolve("10.0.0.2", PORT).await.expect("a literal"), [address()]);
        world.network().set_resolver(a, Some(ResolverFault::TimedOut(Duration::from_secs(5))));
        let start = world.now_ms();
        assert_eq!(rt.resolve("b", PORT).await.expect_err("hangs").kind(), ErrorKind::TimedOut);
        assert!(world.now_ms() - start >= 5_000);
    });
}

#[test]
fn a_slow_line_takes_its_time() {
    for_seeds(|world| async move {
        let Pair { world, nodes: [a, b], client: (_r, mut write), server: (mut read, _w) } =
            pair(world).await;
        world.network().change(a, b, |link| link.bytes_per_s = 100_000);
        let start = world.now_ms();
        let bytes = vec![1; 100_000];
        write.write_all(&bytes[..]).await.expect("the buffer takes it");
        let mut buf = BytesMut::with_capacity(1 << 17);
        while buf.len() < bytes.len() {
            read.read_buf(&mut buf).await.expect("reads");
        }
        assert!((1_000..1_500).contains(&(world.now_ms() - start)), "{} ms", world.now_ms() - start);
    });
}
