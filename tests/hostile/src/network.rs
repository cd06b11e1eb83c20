//! Opens a connection: nobody granted the network.

use std::net::TcpStream;

use gristmill_guest::{Failure, OrFail, Work};

pub(crate) fn run(_: &Work) -> Result<(), Failure> {
    TcpStream::connect("127.0.0.1:80").or_permanent("connecting")?;
    Ok(())
}
