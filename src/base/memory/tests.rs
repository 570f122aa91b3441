use std::task::Waker;

use super::*;

const KIB: usize = 1024;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Whether a share has room now.
fn has_room(share: &mut Share) -> bool {
    match share.poll_line(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(room) => room.is_ok(),
        Poll::Pending => false,
    }
}

#[test]
fn what_is_held_is_counted_until_its_last_reference_goes() {
    let memory = Memory::new(1 << 20);
    let share = memory.share(address("192.0.2.1"));
    let bytes = share.hold(Bytes::from(vec![7; 100 * KIB]));
    let part = bytes.slice(10..20);
    assert_eq!((memory.held(), &part[..]), (100 * 1024, &[7; 10][..]));
    drop((bytes, share));
    assert_eq!(memory.held(), 100 * 1024);
    drop(part);
    assert_eq!(memory.held(), 0);
    assert!(memory.held.lock().by_address.is_empty(), "nothing is remembered of whoever holds nothing");
}

#[test]
fn one_address_leaves_the_last_eighth_and_half_to_whoever_waits() {
    let memory = Memory::new(800 * 1024);
    let (mut one, mut other) = (memory.share(address("192.0.2.1")), memory.share(address("192.0.2.2")));
    let mut leases = Vec::new();
    while has_room(&mut one) {
        leases.push(one.take(10 * KIB));
    }
    assert_eq!(memory.held(), 700 * 1024, "alone it has seven eighths");
    assert!(has_room(&mut other), "another has room");
    let theirs = other.take(100 * KIB);
    assert!(!has_room(&mut other), "and waits where there is none");
    leases.pop();
    assert!(!has_room(&mut one), "what is given back isn't its own while another waits");
    assert!(has_room(&mut other));
    leases.truncate(39);
    assert!(has_room(&mut one), "but half of all is");
    drop(theirs);
}

#[test]
fn addresses_of_one_network_count_as_one() {
    let memory = Memory::new(800 * 1024);
    let taken = memory.share(address("2001:db8::1")).take(700 * KIB);
    assert!(!has_room(&mut memory.share(address("2001:db8::2"))));
    assert!(has_room(&mut memory.share(address("2001:db8:0:1::1"))));
    drop(taken);
    let taken = memory.share(address("192.0.2.1")).take(700 * KIB);
    assert!(!has_room(&mut memory.share(address("::ffff:192.0.2.1"))));
    drop(taken);
}

#[test]
fn what_is_shared_is_refused_where_it_does_not_fit() {
    let memory = Memory::new(100 * 1024);
    let mut lease = memory.try_take(80 * KIB).unwrap();
    assert!(memory.try_take(21 * KIB).is_none() && memory.try_take(usize::MAX).is_none());
    lease.shrink(10 * KIB);
    lease.shrink(20 * KIB);
    assert_eq!(memory.held(), 10 * 1024, "it never grows");
    assert!(memory.try_take(90 * KIB).is_some());
}

#[tokio::test(start_paused = true)]
async fn who_waits_goes_on_in_order_and_not_for_ever() {
    let memory = Memory::new(64 * 1024);
    let taken = memory.common().take(64 * KIB);
    let wait = |name: &str| {
        let mut share = memory.share(address(name));
        tokio::spawn(async move {
            share.room().await?;
            // It holds all that there is.
            Ok::<_, Full>(share.take(64 * KIB))
        })
    };
    let (first, second) = (wait("192.0.2.1"), wait("192.0.2.2"));
    tokio::task::yield_now().await;
    drop(taken);
    let held = first.await.unwrap().unwrap();
    assert!(second.await.unwrap().is_err(), "it is told after a while");
    assert_eq!((memory.held(), memory.refused()), (64 * 1024, 1));
    drop(held);
    assert!(memory.held.lock().line.is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_the_line_holds_nobody_up() {
    let memory = Memory::new(64 * 1024);
    let taken = memory.common().take(64 * KIB);
    let mut gone = memory.share(address("192.0.2.1"));
    let mut next = memory.share(address("192.0.2.2"));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(gone.poll_line(&mut cx).is_pending());
    let waiting = tokio::spawn(async move { next.room().await });
    tokio::task::yield_now().await;
    drop(taken);
    drop(gone);
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn in_the_middle_of_an_answer_the_wait_has_an_end_too() {
    let memory = Memory::new(64 * 1024);
    let _taken = memory.common().take(64 * KIB);
    let mut share = memory.share(address("192.0.2.1"));
    assert_eq!(std::future::poll_fn(|cx| share.poll_room(cx)).await, Err(Full));
}
