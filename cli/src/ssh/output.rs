//! Where the output of a program goes: as it is, or each line behind the name of the node that it comes from.

use std::io;

use tokio::io::{AsyncWrite, AsyncWriteExt};

/// A line without an end is broken after this many bytes.
const MAX_LINE: usize = 64 * 1024;

/// Which of a program's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// The two outputs of a program.
pub struct Output<O, E> {
    out: Writer<O>,
    err: Writer<E>,
}

struct Writer<W> {
    writer: W,
    /// What stands before each line, and the line that has not ended yet.
    lines: Option<(String, Vec<u8>)>,
}

impl<O: AsyncWrite + Unpin, E: AsyncWrite + Unpin> Output<O, E> {
    /// Every byte as it comes.
    pub fn plain(out: O, err: E) -> Self {
        Self { out: Writer { writer: out, lines: None }, err: Writer { writer: err, lines: None } }
    }

    /// Whole lines, each as `[name] line`.
    pub fn of_node(name: &str, out: O, err: E) -> Self {
        let lines = || Some((format!("[{name}] "), Vec::new()));
        Self { out: Writer { writer: out, lines: lines() }, err: Writer { writer: err, lines: lines() } }
    }

    /// Writes what a program said.
    ///
    /// # Errors
    /// Whoever reads it is gone.
    pub async fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        match stream {
            Stream::Out => self.out.write(bytes).await,
            Stream::Err => self.err.write(bytes).await,
        }
    }

    /// Writes what is left: the program is over.
    ///
    /// # Errors
    /// Whoever reads it is gone.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.out.finish().await?;
        self.err.finish().await
    }
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some((prefix, line)) = &mut self.lines else {
            self.writer.write_all(bytes).await?;
            return self.writer.flush().await;
        };
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            line.extend_from_slice(piece);
            if line.ends_with(b"\n") || line.len() > MAX_LINE {
                write_line(&mut self.writer, prefix, line).await?;
            }
        }
        self.writer.flush().await
    }

    async fn finish(&mut self) -> io::Result<()> {
        if let Some((prefix, line)) = &mut self.lines
            && !line.is_empty()
        {
            write_line(&mut self.writer, prefix, line).await?;
        }
        self.writer.flush().await
    }
}

async fn write_line(
    writer: &mut (impl AsyncWrite + Unpin),
    prefix: &str,
    line: &mut Vec<u8>,
) -> io::Result<()> {
    let mut whole = Vec::with_capacity(prefix.len() + line.len() + 1);
    whole.extend_from_slice(prefix.as_bytes());
    whole.append(line);
    if !whole.ends_with(b"\n") {
        whole.push(b'\n');
    }
    // One write, so that lines of the two outputs do not mix where they go to the same place.
    writer.write_all(&whole).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_line_names_its_node() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut output = Output::of_node("db-1", &mut out, &mut err);
        output.write(Stream::Out, b"a\nb").await.unwrap();
        output.write(Stream::Err, b"oops").await.unwrap();
        output.write(Stream::Out, b"c\n\n").await.unwrap();
        output.finish().await.unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "[db-1] a\n[db-1] bc\n[db-1] \n");
        assert_eq!(String::from_utf8(err).unwrap(), "[db-1] oops\n");
    }

    #[tokio::test]
    async fn a_line_without_end_does_not_grow_without_end() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut output = Output::of_node("db-1", &mut out, &mut err);
        output.write(Stream::Out, &vec![b'x'; MAX_LINE + 1]).await.unwrap();
        output.write(Stream::Out, b"y").await.unwrap();
        assert!(out.ends_with(b"x\n"));
    }

    #[tokio::test]
    async fn plain_output_is_every_byte_as_it_is() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut output = Output::plain(&mut out, &mut err);
        output.write(Stream::Out, b"\x00\xff\n").await.unwrap();
        output.finish().await.unwrap();
        assert_eq!(out, b"\x00\xff\n");
    }
}
