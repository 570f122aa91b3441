//! A directory full of archives as small as they get: empty zips with whole records.

use std::fs;
use std::path::Path;
use std::time::Instant;

use http::{HeaderMap, HeaderValue, header};
use larder::base::key::{ArchiveId, JobId, Key};
use larder::gitlab::grant::{AskedPath, Facts, ObjectPath, StorageRules};
use larder::gitlab::route::Class;
use larder::http::fields::StoredHeaders;
use larder::http::{Etag, Sha256};
use larder::store::Record;
use twox_hash::XxHash3_128;

pub(crate) const INSTANCE: &str = "bench";

/// Job IDs begin where a large GitLab is.
const FIRST: u64 = 7_000_000_000;

/// A zip archive without members: its end record alone.
const EMPTY: [u8; 22] = *b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

const SHARDS: u64 = 256;

pub(crate) fn key(n: u64) -> Key {
    Key::Job(JobId::parse(&(FIRST + n).to_string()).unwrap())
}

fn object(n: u64) -> Option<ObjectPath> {
    let rules =
        StorageRules { gitlab: "https://gitlab.example.com".parse().unwrap(), external: None, hosts: None };
    let location = format!(
        "https://bucket.s3.example.com/ab/cd/2027_01_15/{}/{n}/artifacts.zip?X-Amz-Signature=0",
        FIRST + n
    );
    let mut fields = HeaderMap::new();
    fields.insert(header::LOCATION, HeaderValue::try_from(location).unwrap());
    rules.location(&fields, AskedPath::default()).map(|location| location.object())
}

/// A record as an archive out of an object store has it.
pub(crate) fn record(n: u64) -> Record {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Record {
        key: key(n),
        id: ArchiveId::new(n),
        length: u64::try_from(EMPTY.len()).unwrap(),
        filled_at: 1_800_000_000 + n,
        faces: Vec::new(),
        facts: Facts {
            etag: None,
            object: object(n),
            length: u64::try_from(EMPTY.len()).ok(),
            modified: Some(1_800_000_000),
            tail: Some(EMPTY.to_vec().into()),
            sha256: Some(Sha256::new(digest)),
        },
        etag: Etag::quoting("0123456789abcdef0123456789abcdef"),
        kept: StoredHeaders::default(),
        class: Class::Job,
        chunks: vec![XxHash3_128::oneshot(&EMPTY)],
        present: None,
    }
}

/// Makes a store of so many archives and no index, unless it is there.
pub(crate) fn make(dir: &Path, archives: u64) {
    if dir.exists() {
        return;
    }
    let (begun, root) = (Instant::now(), dir.with_extension("incomplete"));
    let shards = root.join(INSTANCE).join("archives");
    for shard in 0..SHARDS {
        let path = shards.join(format!("{shard:02x}"));
        fs::create_dir_all(&path).unwrap();
        for n in (1..=archives).filter(|n| (FIRST + n) % SHARDS == shard) {
            let record = record(n);
            let name = format!("{}-{}", record.key, record.id);
            fs::write(path.join(format!("{name}.zip")), EMPTY).unwrap();
            fs::write(path.join(format!("{name}.rec")), record.encode().unwrap()).unwrap();
        }
    }
    fs::rename(root, dir).unwrap();
    println!("{archives} archives made in {:?}", begun.elapsed());
}
