//! Heads as they came over the wire. hyper keeps no spelling of names and groups equal ones, and a mirror
//! for pass-through tests must show both.

/// More than any head that hyper takes.
const LIMIT: usize = 512 << 10;

/// The request line's target and the fields of one head, as received.
#[derive(Clone, Debug)]
pub(crate) struct RawHead {
    pub(crate) target: String,
    pub(crate) fields: Vec<(String, String)>,
}

/// Collects what is read from a connection between two requests.
#[derive(Debug)]
pub(crate) struct Capture {
    armed: bool,
    bytes: Vec<u8>,
}

impl Default for Capture {
    fn default() -> Self {
        Self { armed: true, bytes: Vec::new() }
    }
}

impl Capture {
    /// Takes what was just read, while a head is expected.
    pub(crate) fn feed(&mut self, read: &[u8]) {
        if self.armed && self.bytes.len() < LIMIT {
            self.bytes.extend_from_slice(read);
        }
    }

    /// From now on a head may come.
    pub(crate) fn arm(&mut self) {
        self.armed = true;
    }

    /// The head that hyper just parsed, if it was seen whole; what follows it is kept, it may be pipelined.
    pub(crate) fn take(&mut self, method: &str) -> Option<RawHead> {
        self.armed = false;
        let bytes = std::mem::take(&mut self.bytes);
        let start = find_start(&bytes, method)?;
        let head = bytes.get(start..)?;
        let (fields_at, target) = request_line(head)?;
        let (fields, end) = fields(head, fields_at)?;
        self.bytes = head.get(end..).unwrap_or_default().to_vec();
        Some(RawHead { target, fields })
    }
}

/// Where a line starts with `method` and a blank: in front may stand what was left of an earlier body.
fn find_start(bytes: &[u8], method: &str) -> Option<usize> {
    let start = format!("{method} ").into_bytes();
    (0..bytes.len()).find(|&at| {
        let fresh = at == 0 || bytes.get(at - 1) == Some(&b'\n');
        fresh && bytes.get(at..).is_some_and(|rest| rest.starts_with(&start))
    })
}

fn request_line(head: &[u8]) -> Option<(usize, String)> {
    let end = head.iter().position(|&byte| byte == b'\n')?;
    let line = String::from_utf8_lossy(head.get(..end)?).into_owned();
    let target = line.split(' ').nth(1)?.to_owned();
    Some((end + 1, target))
}

/// The fields and where the body begins.
fn fields(head: &[u8], mut at: usize) -> Option<(Vec<(String, String)>, usize)> {
    let mut fields = Vec::new();
    loop {
        let rest = head.get(at..)?;
        let end = rest.iter().position(|&byte| byte == b'\n')?;
        let line = String::from_utf8_lossy(rest.get(..end)?).into_owned();
        at += end + 1;
        let line = line.trim_end_matches('\r');
        if line.is_empty() {
            return Some((fields, at));
        }
        let (name, value) = line.split_once(':')?;
        fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_case_and_repeats_and_what_is_pipelined() {
        let mut capture = Capture::default();
        capture.feed(
            b"\r\nGET /a%2Fb?x HTTP/1.1\r\nhOsT: h\r\nX-A:1\r\nY: 2\r\nx-a: 3\r\n\r\nPUT /n HTTP/1.1\r\n\r\n",
        );
        let head = capture.take("GET").unwrap();
        assert_eq!(head.target, "/a%2Fb?x");
        let names: Vec<_> = head.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(names, ["hOsT=h", "X-A=1", "Y=2", "x-a=3"]);
        assert_eq!(capture.take("PUT").unwrap().target, "/n");
        assert!(capture.take("GET").is_none());
    }
}
