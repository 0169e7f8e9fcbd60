//! The switch between the labs of several hosts. It learns which port an address is behind, as any Ethernet switch does.
//!
//! A port whose stream is slower than what comes for it loses frames; no port waits for another.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use pspd_model::spec::Name;

use super::frames::{Address, Frame};

/// Frames that wait for one port.
const QUEUE: usize = 256;
/// Of a stream, in bytes.
const BUFFER: usize = 256 << 10;
/// More addresses than a deployment has; guests may invent others.
const MOST_LEARNED: usize = 4096;

/// A port's number, which no later port has.
type Port = usize;

#[derive(Debug, Default)]
pub(super) struct Switch(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    next: Port,
    ports: BTreeMap<Port, (Name, SyncSender<Frame>)>,
    learned: HashMap<Address, Port>,
    cut: BTreeSet<Name>,
}

impl Switch {
    /// Passes no frame from or to these hosts.
    pub(super) fn cut_off(&self, hosts: BTreeSet<Name>) {
        self.table().cut = hosts;
    }

    /// Serves the port of a host until one of its streams ends; `from`'s end is none of its errors.
    pub(super) fn serve(
        &self,
        host: &Name,
        from: impl Read,
        to: impl Write + Send,
    ) -> io::Result<()> {
        let (queue, waiting) = sync_channel(QUEUE);
        let port = {
            let mut table = self.table();
            let port = table.next;
            table.next += 1;
            table.ports.insert(port, (host.clone(), queue));
            port
        };
        thread::scope(|scope| {
            let writing = scope.spawn(move || write(&waiting, to));
            let read = self.read(port, from);
            // The writer ends when nobody can send to it.
            self.table().remove(port);
            let written = writing
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            read.and(written)
        })
    }

    fn read(&self, port: Port, from: impl Read) -> io::Result<()> {
        let mut from = BufReader::with_capacity(BUFFER, from);
        while let Some(frame) = Frame::read(&mut from)? {
            self.table().pass(port, frame);
        }
        Ok(())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn pass(&mut self, port: Port, frame: Frame) {
        if self.learned.len() >= MOST_LEARNED {
            self.learned.clear();
        }
        self.learned.insert(frame.from(), port);
        if self.is_cut(port) {
            return;
        }
        let known = frame.to().and_then(|to| self.learned.get(&to));
        match known.filter(|to| self.ports.contains_key(to)) {
            Some(to) => self.send(port, *to, frame),
            None => {
                for to in self.ports.keys() {
                    self.send(port, *to, frame.clone());
                }
            }
        }
    }

    fn send(&self, from: Port, to: Port, frame: Frame) {
        if let Some((_, queue)) = self.ports.get(&to)
            && to != from
            && !self.is_cut(to)
        {
            // A full queue loses the frame.
            let _full = queue.try_send(frame);
        }
    }

    fn is_cut(&self, port: Port) -> bool {
        let host = self.ports.get(&port);
        host.is_some_and(|(host, _)| self.cut.contains(host))
    }

    fn remove(&mut self, port: Port) {
        self.ports.remove(&port);
        self.learned.retain(|_, behind| *behind != port);
    }
}

/// Writes what waits; flushes when nothing more does.
fn write(waiting: &Receiver<Frame>, to: impl Write) -> io::Result<()> {
    let mut to = BufWriter::with_capacity(BUFFER, to);
    while let Ok(frame) = waiting.recv() {
        frame.write(&mut to)?;
        loop {
            match waiting.try_recv() {
                Ok(frame) => frame.write(&mut to)?,
                Err(TryRecvError::Empty) => break to.flush()?,
                Err(TryRecvError::Disconnected) => return to.flush(),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, PipeWriter, pipe};

    use super::*;

    const ALL: u8 = 0xff;

    /// A frame between two addresses that differ in one byte; its content is `mark`.
    fn frame(from: u8, to: u8, mark: u8) -> Frame {
        let mut packet = vec![0; 10];
        let address = |last: u8| match last {
            ALL => [ALL; 6],
            last => [0x52, 0x54, 0, 0, 0, last],
        };
        packet.extend(address(to));
        packet.extend(address(from));
        packet.extend([0x88, 0xb5, mark]);
        Frame::of(&packet).unwrap()
    }

    /// What a host has of a port.
    struct End {
        to: PipeWriter,
        from: BufReader<PipeReader>,
    }

    impl End {
        fn send(&mut self, frame: &Frame) {
            frame.write(&mut self.to).unwrap();
        }

        fn receive(&mut self) -> Frame {
            Frame::read(&mut self.from).unwrap().unwrap()
        }
    }

    /// Runs `test` with the ends of three ports, of the hosts `a`, `b` and `c`.
    fn with_three(test: impl FnOnce(&Switch, [End; 3])) {
        let switch = Switch::default();
        thread::scope(|scope| {
            let ends = ["a", "b", "c"].map(|host| {
                let ((from, to_switch), (from_switch, to)) = (pipe().unwrap(), pipe().unwrap());
                let switch = &switch;
                // A stream that broke is an error, and its port is gone like any other.
                scope.spawn(move || switch.serve(&Name::new(host).unwrap(), from, to));
                End {
                    to: to_switch,
                    from: BufReader::new(from_switch),
                }
            });
            while switch.table().ports.len() < 3 {
                thread::yield_now();
            }
            test(&switch, ends);
        });
        assert!(switch.table().ports.is_empty());
        assert!(switch.table().learned.is_empty());
    }

    #[test]
    fn what_is_for_all_reaches_all_others_and_an_answer_one() {
        with_three(|_, [mut one, mut two, mut three]| {
            let question = frame(1, ALL, 1);
            one.send(&question);
            assert_eq!(two.receive(), question);
            assert_eq!(three.receive(), question);
            let answer = frame(2, 1, 2);
            two.send(&answer);
            assert_eq!(one.receive(), answer);
            // The third got no answer: the next that it gets is this.
            let later = frame(1, ALL, 3);
            one.send(&later);
            assert_eq!(three.receive(), later);
        });
    }

    #[test]
    fn a_host_that_takes_nothing_keeps_no_other_waiting() {
        with_three(|_, [mut one, mut two, three]| {
            // More than its pipe and its queue have room for, and no broadcast waits for it.
            for _ in 0..4 {
                for mark in 0..200 {
                    one.send(&frame(1, ALL, mark));
                    assert_eq!(two.receive(), frame(1, ALL, mark));
                }
            }
            drop(three);
        });
    }

    #[test]
    fn no_frame_passes_from_or_to_a_host_that_is_cut_off() {
        with_three(|switch, [mut one, mut two, mut three]| {
            one.send(&frame(1, ALL, 1));
            assert_eq!(two.receive(), frame(1, ALL, 1));
            assert_eq!(three.receive(), frame(1, ALL, 1));
            switch.cut_off(BTreeSet::from([Name::new("b").unwrap()]));
            two.send(&frame(2, 1, 2));
            let last = frame(4, ALL, 3);
            two.send(&last);
            while !switch.table().learned.contains_key(&last.from()) {
                thread::yield_now();
            }
            one.send(&frame(1, ALL, 4));
            assert_eq!(three.receive(), frame(1, ALL, 4));
            three.send(&frame(3, 1, 5));
            assert_eq!(one.receive(), frame(3, 1, 5));
            switch.cut_off(BTreeSet::new());
            one.send(&frame(1, 2, 6));
            assert_eq!(two.receive(), frame(1, 2, 6));
        });
    }
}
