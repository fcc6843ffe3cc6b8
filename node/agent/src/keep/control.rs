//! A keeper's control connections: few, never waited for.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use super::proto::{Ask, Decoder, Say, Word};
use super::record::CONTROL;

/// More connections than this at a time are refused; one agent uses one.
const MAX_CLIENTS: usize = 8;

/// The listener and everybody who is connected.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) listener: UnixListener,
    pub(super) clients: Vec<Client>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: UnixStream,
    decoder: Decoder<Ask>,
    alive: bool,
}

impl Control {
    /// Listens in the current directory, whose path may be longer than a socket address can hold.
    pub(super) fn open() -> io::Result<Self> {
        match std::fs::remove_file(CONTROL) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(CONTROL)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, clients: Vec::new() })
    }

    /// Takes a connection over.
    pub(super) fn add(&mut self, stream: UnixStream, greeting: Option<&Say>) {
        if self.clients.len() >= MAX_CLIENTS || stream.set_nonblocking(true).is_err() {
            return;
        }
        let mut client = Client { stream, decoder: Decoder::default(), alive: true };
        if let Some(word) = greeting {
            client.say(word);
        }
        self.clients.push(client);
    }

    /// Takes new connections.
    pub(super) fn accept(&mut self, greeting: Option<&Say>) {
        while let Ok((stream, _)) = self.listener.accept() {
            self.add(stream, greeting);
        }
    }

    /// Everything that was asked since, with the number of the asking client.
    pub(super) fn asked(&mut self) -> Vec<(usize, Ask)> {
        let mut asked = Vec::new();
        for (number, client) in self.clients.iter_mut().enumerate() {
            client.read();
            while client.alive {
                match client.decoder.next() {
                    Ok(Some(ask)) => asked.push((number, ask)),
                    Ok(None) => break,
                    Err(_) => client.alive = false,
                }
            }
        }
        asked
    }

    /// Answers one client.
    pub(super) fn answer(&mut self, number: usize, word: &Say) {
        if let Some(client) = self.clients.get_mut(number) {
            client.say(word);
        }
    }

    /// Tells everybody.
    pub(super) fn tell(&mut self, word: &Say) {
        for client in &mut self.clients {
            client.say(word);
        }
    }

    /// Forgets the connections that ended.
    pub(super) fn sweep(&mut self) {
        self.clients.retain(|client| client.alive);
    }
}

impl Client {
    // A client that does not read its few bytes is no client.
    fn say(&mut self, word: &Say) {
        self.alive &= self.stream.write_all(&word.to_frame()).is_ok();
    }

    fn read(&mut self) {
        let mut bytes = [0; 512];
        while self.alive {
            match self.stream.read(&mut bytes) {
                Ok(0) => self.alive = false,
                Ok(count) => self.decoder.push(bytes.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.alive = false,
            }
        }
    }
}
