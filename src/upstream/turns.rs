//! Whose turn it is: places handed out in turn between clients.
//!
//! Pure: no clock, no task. Whoever changes something asks for [`next`](Turns::next) until there is none; then nobody
//! waits who could have a place.
//!
//! Three rules. In the order of arrival within one client, round robin between clients that wait. Nobody takes more than
//! half of the places while another waits. And nobody takes one if what is free would be less than a fifteenth of what it
//! has then, and none the last one who has three: a client alone has fifteen of sixteen, the next as much of the rest, so
//! that a newcomer finds a place however long the others keep theirs, and all have alike in the end (dynamic thresholds by
//! Choudhury and Hahne, 1998, with a factor of 15). The price is that a sixteenth may be free while others want it. Of
//! fewer than four places one client may have all: there a reserve would be most of what there is. Who may wait is decided
//! by the third rule as well.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::base::household::Household;

/// How many times what is free one client may have.
const FACTOR: usize = 15;

/// How many it may have when it takes the last one.
const LAST: usize = 3;

/// Places, and who has and wants them. No more entries than places and those that wait.
#[derive(Debug)]
pub(super) struct Turns<W> {
    most: usize,
    free: usize,
    /// How many may wait.
    line: usize,
    waiting: usize,
    /// How many have waited so far: a number for the next.
    tickets: u64,
    clients: HashMap<Household, Queue<W>>,
    /// The clients that wait, the next first.
    ring: VecDeque<Household>,
}

/// One client. There is none without a place or somebody who waits.
#[derive(Debug)]
struct Queue<W> {
    held: usize,
    /// By ticket, which is in the order of arrival.
    queue: BTreeMap<u64, W>,
}

/// What becomes of somebody who wants a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// It has one, to be [given back](Turns::give_back).
    Place,
    /// It waits, under this number.
    Waits(u64),
    /// There is no room to wait.
    Full,
}

impl<W> Turns<W> {
    /// `most` places, all free; `line` may wait.
    pub(super) fn new(most: usize, line: usize) -> Self {
        let (clients, ring) = (HashMap::new(), VecDeque::new());
        Self { most, free: most, line, waiting: 0, tickets: 0, clients, ring }
    }

    /// A place if it is there for this client; else a number in the line, where `waits` stands for whoever waits.
    pub(super) fn enter(&mut self, who: Household, waits: impl FnOnce() -> W) -> Entered {
        if self.take(who) {
            return Entered::Place;
        }
        let queued = self.clients.get(&who).map_or(0, |client| client.queue.len());
        if !within_share(queued, self.line.saturating_sub(self.waiting)) {
            return Entered::Full;
        }
        let ticket = self.tickets;
        self.tickets = ticket.wrapping_add(1);
        self.waiting += 1;
        self.client(who).queue.insert(ticket, waits());
        if queued == 0 {
            self.ring.push_back(who);
        }
        Entered::Waits(ticket)
    }

    /// Takes a place if it is there for this client and nobody of it waits.
    pub(super) fn take(&mut self, who: Household) -> bool {
        let takes = !self.is_waiting(who) && self.may_take(who);
        if takes {
            self.free -= 1;
            self.client(who).held += 1;
        }
        takes
    }

    /// A client gives a place back.
    pub(super) fn give_back(&mut self, who: Household) {
        if let Some(client) = self.clients.get_mut(&who) {
            client.held -= 1;
            self.free += 1;
        }
        self.forget(who);
    }

    /// Whoever waits under this number doesn't any more; nothing happens if it doesn't wait.
    pub(super) fn cancel(&mut self, who: Household, ticket: u64) {
        let Some(client) = self.clients.get_mut(&who) else { return };
        if client.queue.remove(&ticket).is_none() {
            return;
        }
        self.waiting -= 1;
        if client.queue.is_empty() {
            self.ring.retain(|other| *other != who);
        }
        self.forget(who);
    }

    /// Gives the next place to whoever's turn it is; `None` if there is none for anybody who waits.
    pub(super) fn next(&mut self) -> Option<(Household, W)> {
        // Those who may not are few: each has many times what is free, or half of all.
        let at = self.ring.iter().position(|who| self.may_take(*who))?;
        let who = self.ring.remove(at)?;
        let client = self.clients.get_mut(&who)?;
        let (_, first) = client.queue.pop_first()?;
        client.held += 1;
        if !client.queue.is_empty() {
            self.ring.push_back(who);
        }
        self.free -= 1;
        self.waiting -= 1;
        Some((who, first))
    }

    fn may_take(&self, who: Household) -> bool {
        let held = self.clients.get(&who).map_or(0, |client| client.held);
        let others_wait = self.ring.len() > usize::from(self.is_waiting(who));
        within_share(held, self.free) && (!others_wait || held < (self.most / 2).max(1))
    }

    fn is_waiting(&self, who: Household) -> bool {
        self.clients.get(&who).is_some_and(|client| !client.queue.is_empty())
    }

    fn client(&mut self, who: Household) -> &mut Queue<W> {
        self.clients.entry(who).or_insert_with(|| Queue { held: 0, queue: BTreeMap::new() })
    }

    fn forget(&mut self, who: Household) {
        if self.clients.get(&who).is_some_and(|client| client.held == 0 && client.queue.is_empty()) {
            self.clients.remove(&who);
        }
    }
}

/// Whether somebody who has `has` may have one more where so many are free.
const fn within_share(has: usize, free: usize) -> bool {
    free > 0 && has < (free - 1).saturating_mul(FACTOR).saturating_add(LAST)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn who(number: u8) -> Household {
        Household::of(std::net::Ipv4Addr::new(192, 0, 2, number).into())
    }

    /// So many places and as many in the line.
    fn turns(most: usize) -> Turns<u32> {
        Turns::new(most, most)
    }

    /// How many places a client gets if it wants as many as there are.
    fn fill(turns: &mut Turns<u32>, number: u8) -> usize {
        (0..turns.most).take_while(|_| turns.take(who(number))).count()
    }

    #[test]
    fn one_alone_leaves_a_sixteenth_and_each_newcomer_as_much_of_that() {
        for (most, alone) in [(1, 1), (2, 2), (3, 3), (4, 3), (8, 7), (64, 60), (4096, 3840)] {
            assert_eq!(fill(&mut turns(most), 1), alone, "{most}");
        }
        let mut turns = turns(4096);
        let greedy: Vec<usize> = (1..=8).map(|number| fill(&mut turns, number)).collect();
        assert_eq!(greedy, [3840, 240, 15, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn whoever_had_all_but_the_reserve_gets_none_while_another_waits() {
        let mut turns = turns(64);
        assert_eq!((fill(&mut turns, 1), fill(&mut turns, 2)), (60, 3));
        for ticket in 0..20 {
            assert!(matches!(turns.enter(who(1), || ticket), Entered::Waits(_)));
            assert!(matches!(turns.enter(who(2), || ticket), Entered::Waits(_)));
        }
        assert_eq!(turns.next(), None);
        let mut given = [0, 0];
        for _ in 0..20 {
            turns.give_back(who(1));
            while let Some((to, _)) = turns.next() {
                given[usize::from(to == who(2))] += 1;
            }
        }
        assert_eq!((given, turns.free), ([0, 19], 2));
    }

    #[test]
    fn nobody_waits_behind_a_line_that_one_client_has_filled() {
        let mut turns = turns(8);
        fill(&mut turns, 1);
        let waiting = (0..100).take_while(|at| turns.enter(who(1), || *at) != Entered::Full).count();
        assert_eq!(waiting, 7);
        assert_eq!((fill(&mut turns, 2), turns.free), (1, 0));
        assert!(matches!(turns.enter(who(3), || 0), Entered::Waits(_)));
    }

    #[test]
    fn whoever_stops_waiting_leaves_no_trace_and_lets_the_other_on() {
        let mut turns = turns(2);
        assert_eq!((turns.enter(who(1), || 0), turns.enter(who(1), || 1)), (Entered::Place, Entered::Place));
        let Entered::Waits(mine) = turns.enter(who(1), || 2) else { panic!("two places") };
        let Entered::Waits(other) = turns.enter(who(2), || 3) else { panic!("two places") };
        turns.cancel(who(2), other);
        turns.cancel(who(2), other);
        assert!(!turns.clients.contains_key(&who(2)));
        turns.give_back(who(1));
        assert_eq!(turns.next(), Some((who(1), 2)));
        turns.cancel(who(1), mine);
        turns.give_back(who(1));
        turns.give_back(who(1));
        assert_eq!((turns.free, turns.clients.len(), turns.ring.len(), turns.waiting), (2, 0, 0, 0));
    }

    #[test]
    fn of_so_many_that_wait_each_gets_every_so_manieth_place_however_many_of_it_wait() {
        let mut turns = Turns::new(64, 4096);
        let holders = (100..200).take_while(|holder| fill(&mut turns, *holder) > 0).count();
        assert!(holders > 1 && turns.free == 0);
        // The first has come before the others, and with fifty times as many.
        for client in 1..=10 {
            for at in 0..if client == 1 { 500 } else { 10 } {
                assert!(matches!(turns.enter(who(client), || at), Entered::Waits(_)));
            }
        }
        turns.give_back(who(100));
        let mut order = Vec::new();
        while order.len() < 100 {
            let (to, _) = turns.next().unwrap();
            assert_eq!(turns.next(), None, "one place goes round");
            turns.give_back(to);
            order.push(to);
        }
        for round in order.chunks(10) {
            let each: BTreeSet<Household> = round.iter().copied().collect();
            assert_eq!(each.len(), 10, "{round:?}");
        }
    }

    /// What may happen.
    #[derive(Debug, Clone)]
    enum Step {
        Enter(u8),
        GiveBack(usize),
        Cancel(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0_u8..6).prop_map(Step::Enter),
            2 => any::<prop::sample::Index>().prop_map(|at| Step::GiveBack(at.index(1 << 16))),
            1 => any::<prop::sample::Index>().prop_map(|at| Step::Cancel(at.index(1 << 16))),
        ];
        prop::collection::vec(step, 0..300)
    }

    /// The rules as they read, over lists.
    struct Naive {
        most: usize,
        line: usize,
        held: Vec<u8>,
        /// Who waits, under which number, and since which change its client does, or has had its last place.
        waiting: Vec<(u8, u64)>,
        since: [u64; 6],
        changes: u64,
    }

    impl Naive {
        fn has(&self, client: u8) -> usize {
            self.held.iter().map(|held| usize::from(*held == client)).sum()
        }

        fn may(&self, client: u8) -> bool {
            let free = self.most - self.held.len();
            let others = self.waiting.iter().any(|(other, _)| *other != client);
            let half = (self.most / 2).max(1);
            free > 0 && self.has(client) < 15 * (free - 1) + 3 && (!others || self.has(client) < half)
        }

        fn enter(&mut self, client: u8, ticket: u64) -> Entered {
            let queued = self.waiting.iter().filter(|(other, _)| *other == client).count();
            if queued == 0 && self.may(client) {
                self.held.push(client);
                return Entered::Place;
            }
            let room = self.line - self.waiting.len();
            if room == 0 || queued >= 15 * (room - 1) + 3 {
                return Entered::Full;
            }
            if queued == 0 {
                self.changes += 1;
                self.since[usize::from(client)] = self.changes;
            }
            self.waiting.push((client, ticket));
            Entered::Waits(ticket)
        }

        fn next(&mut self) -> Option<(u8, u64)> {
            let able = self.waiting.iter().filter(|(client, _)| self.may(*client));
            let first = able.min_by_key(|(client, ticket)| (self.since[usize::from(*client)], *ticket));
            let (client, ticket) = *first?;
            self.waiting.retain(|waiting| *waiting != (client, ticket));
            self.held.push(client);
            self.changes += 1;
            self.since[usize::from(client)] = self.changes;
            Some((client, ticket))
        }
    }

    proptest! {
        #[test]
        fn places_go_as_the_rules_say_and_none_is_lost(
            most in 1_usize..20,
            line in 1_usize..20,
            steps in steps(),
        ) {
            let mut turns: Turns<u64> = Turns::new(most, line);
            let mut naive =
                Naive { most, line, held: Vec::new(), waiting: Vec::new(), since: [0; 6], changes: 0 };
            for step in steps {
                match step {
                    Step::Enter(client) => {
                        let ticket = turns.tickets;
                        let entered = turns.enter(who(client), || ticket);
                        prop_assert_eq!(entered, naive.enter(client, ticket));
                    }
                    Step::GiveBack(at) if !naive.held.is_empty() => {
                        let client = naive.held.swap_remove(at % naive.held.len());
                        turns.give_back(who(client));
                    }
                    Step::Cancel(at) if !naive.waiting.is_empty() => {
                        let (client, ticket) = naive.waiting.remove(at % naive.waiting.len());
                        turns.cancel(who(client), ticket);
                    }
                    Step::GiveBack(_) | Step::Cancel(_) => {}
                }
                loop {
                    let (given, expected) = (turns.next(), naive.next());
                    prop_assert_eq!(given, expected.map(|(client, ticket)| (who(client), ticket)));
                    let Some((client, _)) = expected else { break };
                    let others = naive.waiting.iter().any(|(other, _)| *other != client);
                    prop_assert!(!others || naive.has(client) <= (most / 2).max(1));
                }
                prop_assert_eq!(turns.free, most - naive.held.len());
                prop_assert_eq!(turns.waiting, naive.waiting.len());
                // Whoever has nothing waits for nothing but that all are taken.
                let waits = |client: &u8| naive.waiting.iter().any(|(other, _)| other == client);
                let poor = (0_u8..6).filter(waits).any(|client| naive.has(client) == 0);
                prop_assert!(!poor || turns.free == 0);
            }
            for client in naive.held.drain(..) {
                turns.give_back(who(client));
                while turns.next().is_some_and(|(to, _)| { turns.give_back(to); true }) {}
            }
            prop_assert_eq!((turns.free, turns.waiting, turns.clients.len(), turns.ring.len()), (most, 0, 0, 0));
        }
    }
}
