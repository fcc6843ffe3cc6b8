//! The harness's own network: each fault must bite, and the counter that proves it must say so.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use dunlin_sim::Conditions;
use dunlin_test_host::wait::until;
use dunlin_tests::env::{has_namespaces, left_out};
use dunlin_tests::netns::{Lost, Network, Slowed};

/// A socket inside a host, on the agents' port.
fn socket(network: &Network, n: usize) -> UdpSocket {
    let socket = network.within(n, || UdpSocket::bind(("0.0.0.0", 7400)));
    let socket = socket.expect("a socket in the namespace");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
    socket
}

#[test]
fn delay_keeps_each_packet_for_its_time_and_loss_and_rate_bite() {
    if !has_namespaces() {
        left_out("delay_keeps_each_packet_for_its_time_and_loss_and_rate_bite", "network namespaces need root");
        return;
    }
    let conditions = Conditions { latency: vec![20_000_000, 30_000_000], ..Conditions::default() };
    let network = Network::relayed(2, conditions, 1);
    let (here, there) = (socket(&network, 0), socket(&network, 1));
    let to = (network.address(1), 7400);
    let mut buffer = [0; 16];
    for n in 0..20_u8 {
        let sent = Instant::now();
        here.send_to(&[0x40, n], to).expect("sent");
        let (_, from) = there.recv_from(&mut buffer).expect("it arrives");
        there.send_to(&buffer[..2], from).expect("sent back");
        here.recv_from(&mut buffer).expect("it comes back");
        assert!(sent.elapsed() >= Duration::from_millis(40), "both ways take at least the table's least");
    }
    let relayed = network.relay();
    assert_eq!((relayed.packets, relayed.doubled), (40, 0));
    assert!(relayed.mean_held() >= Duration::from_millis(20));

    assert_eq!(network.lost().lost, 0);
    network.lose(1, 2);
    there.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
    (0..200).for_each(|_| drop(here.send_to(b"lost?", to)));
    let mut arrived = 0;
    until("each packet has arrived or was counted as lost", Duration::from_secs(10), || {
        arrived += std::iter::from_fn(|| there.recv_from(&mut buffer).ok()).count() as u64;
        let told = arrived + network.lost().lost;
        (told == 200).then_some(()).ok_or_else(|| format!("{told} of 200"))
    });
    let Lost { lost, came } = network.lost();
    assert!((50..=150).contains(&lost) && came >= 200, "{lost} of {came}");

    network.lose(0, 1);
    network.slow(0, 10_000);
    (0..50).for_each(|_| drop(here.send_to(&[0; 1_000], to)));
    let Slowed { waited, dropped } = network.slowed(0);
    assert!(waited > 0 && dropped > 0, "{waited} {dropped}");
}

#[test]
fn a_muted_host_hears_and_a_silenced_one_does_not() {
    if !has_namespaces() {
        left_out("a_muted_host_hears_and_a_silenced_one_does_not", "network namespaces need root");
        return;
    }
    let network = Network::new(2);
    let (here, there) = (socket(&network, 0), socket(&network, 1));
    let sends = |from: &UdpSocket, to: &UdpSocket, n: usize, patience: Duration| {
        to.set_read_timeout(Some(patience)).expect("a time-out");
        let _refused = from.send_to(b"x", (network.address(n), 7400));
        to.recv_from(&mut [0; 4]).is_ok()
    };
    // What arrives may take long on a busy machine; what does not was dropped before the call returned.
    let reaches = |from: &UdpSocket, to: &UdpSocket, n: usize| sends(from, to, n, Duration::from_secs(10));
    let is_lost = |from: &UdpSocket, to: &UdpSocket, n: usize| !sends(from, to, n, Duration::from_millis(100));
    assert!(reaches(&here, &there, 1) && reaches(&there, &here, 0));
    network.mute(0);
    assert!(is_lost(&here, &there, 1) && reaches(&there, &here, 0));
    network.heal();
    network.silence(0);
    assert!(is_lost(&here, &there, 1) && is_lost(&there, &here, 0));
    network.heal_around(0);
    network.cut(&[0], &[1]);
    assert!(is_lost(&here, &there, 1) && is_lost(&there, &here, 0));
    network.heal();
    assert!(reaches(&here, &there, 1) && reaches(&there, &here, 0));
}
