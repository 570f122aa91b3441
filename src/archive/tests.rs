use super::*;
use crate::num::to_u64;

/// A stored entry `a` holding `x`, its directory and the end record.
pub(crate) fn zip(comment: &[u8]) -> Vec<u8> {
    let sizes = [0x83, 0x16, 0xdc, 0x8c, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0];
    let local = [b"PK\x03\x04\x0a\0\0\0\0\0\0\0\0\0".as_slice(), &sizes, b"ax"].concat();
    let central = [b"PK\x01\x02\x0a\0\x0a\0\0\0\0\0\0\0\0\0".as_slice(), &sizes, &[0; 14], b"a"].concat();
    let numbers = [u32::try_from(central.len()).unwrap(), u32::try_from(local.len()).unwrap()];
    let numbers: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    let comment = [&u16::try_from(comment.len()).unwrap().to_le_bytes(), comment].concat();
    [local, central, b"PK\x05\x06\0\0\0\0\x01\0\x01\0".to_vec(), numbers, comment].concat()
}

fn check(bytes: &[u8]) -> Result<u64, NotWhole> {
    struct Slice<'a>(&'a [u8]);
    impl ReadAt for Slice<'_> {
        fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
            let rest = self.0.get(crate::num::to_usize(at)..).unwrap_or_default();
            let n = rest.len().min(buffer.len());
            buffer[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        }
    }
    super::check(&Slice(bytes), to_u64(bytes.len()))
}

#[test]
fn a_whole_archive_is_one() {
    assert_eq!(check(&zip(b"")).unwrap(), 1);
    assert_eq!(check(&zip(&vec![b'c'; 65_535])).unwrap(), 1, "the longest comment");
    let empty = [b"PK\x05\x06".as_slice(), &[0; 18]].concat();
    assert_eq!(check(&empty).unwrap(), 0);
    assert!(begins_as_zip(&empty) && begins_as_zip(&zip(b"")) && !begins_as_zip(b"<htm"));
}

#[test]
fn a_cut_archive_is_none_wherever_it_is_cut() {
    let whole = zip(b"comment");
    for length in 0..whole.len() {
        assert!(check(&whole[..length]).is_err(), "cut at {length}");
    }
}

#[test]
fn what_follows_the_end_and_what_lies_about_it_is_noticed() {
    assert!(matches!(check(&[zip(b"").as_slice(), b"more"].concat()), Err(NotWhole::Trailing(4))));
    let mut lies = zip(b"");
    let count = lies.len() - 12;
    lies[count] = 2;
    lies[count - 2] = 2;
    assert!(check(&lies).is_err());
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, at in 0_usize..120, with: u8) {
        let _ = check(&bytes);
        let mut mutant = zip(&bytes[..bytes.len().min(100)]);
        let at = at % mutant.len();
        mutant[at] = with;
        let _ = check(&mutant);
    }
}
