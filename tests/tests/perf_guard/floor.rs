//! The least that handing a message to many connections can cost: a plain loop of `write()`.
//!
//! Must not know: any gateway.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use parlance_tests::cost;

/// The processor time of one write of so many bytes, to each of so many connections in turn.
pub fn delivery(connections: usize, messages: usize, bytes: usize) -> Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (mut near, mut far) = (Vec::new(), Vec::new());
    for _ in 0..connections {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        near.push(stream);
        far.push(listener.accept()?.0);
    }
    let written = thread::scope(|scope| {
        let writing = scope.spawn(|| write(&near, &vec![b'x'; bytes], messages));
        let mut buffer = vec![0; bytes];
        for _ in 0..messages {
            for stream in &mut far {
                stream.read_exact(&mut buffer)?;
            }
        }
        writing.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the writer died")))
    })?;
    ensure!(!written.is_zero(), "this system does not say what a thread costs");
    Ok(written / u32::try_from(connections * messages)?)
}

fn write(to: &[TcpStream], bytes: &[u8], messages: usize) -> Result<Duration> {
    let before = cost::own_thread();
    for _ in 0..messages {
        for mut stream in to {
            stream.write_all(bytes)?;
        }
    }
    Ok(cost::own_thread() - before)
}
