//! What a start finds.
//!
//! Files are the truth: a whole archive with its record is adopted, one without is deleted, what was unfinished is
//! swept. The index only spares reading the records it agrees with.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use super::index::{Index, Rows};
use super::layout::{self, Found, Layout};
use super::record::{BadRecord, Record};
use super::shelf::{Shelf, Slot};
use crate::key::{ArchiveId, Key};
use crate::num::to_u64;

/// Fills a shelf from the files and brings the index in line with it.
pub(super) fn recover(layout: &Layout, index: &Index, rows: &Rows, budget: u64) -> io::Result<Shelf> {
    sweep_incoming(layout)?;
    let mut adopted: BTreeMap<Key, Slot> = BTreeMap::new();
    for shard in fs::read_dir(layout.archives())? {
        for ((key, id), found) in layout::list(&shard?.path())? {
            let Some(slot) = examine(layout, key, id, found, rows.get(&key)) else {
                continue;
            };
            match adopted.get(&key) {
                Some(other) if (other.filled_at, other.id) > (slot.filled_at, slot.id) => {
                    discard(layout, key, id);
                }
                Some(other) => {
                    discard(layout, key, other.id);
                    adopted.insert(key, slot);
                }
                None => {
                    adopted.insert(key, slot);
                }
            }
        }
    }
    align(index, rows, &adopted);
    let mut by_use: Vec<(Key, Slot)> = adopted.into_iter().collect();
    by_use.sort_by_key(|(_, slot)| slot.used_at);
    let mut shelf = Shelf::new(budget);
    for (key, slot) in by_use {
        shelf.adopt(key, slot);
    }
    shrink(layout, index, &mut shelf);
    Ok(shelf)
}

fn sweep_incoming(layout: &Layout) -> io::Result<()> {
    for entry in fs::read_dir(layout.incoming())? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}

/// The slot of an archive that can be adopted; what can't is discarded, or left alone if it is another version's.
fn examine(layout: &Layout, key: Key, id: ArchiveId, found: Found, row: Option<&Slot>) -> Option<Slot> {
    if !(found.zip && found.rec) {
        discard(layout, key, id);
        return None;
    }
    if let Some(row) = row.filter(|row| row.id == id) {
        return Some(*row);
    }
    match read(layout, key, id) {
        Ok(slot) => Some(slot),
        Err(Some(reason @ BadRecord::Version(_))) => {
            tracing::warn!(%key, %reason, "an archive in the store is left alone");
            None
        }
        Err(reason) => {
            let reason =
                reason.map_or_else(|| "its files can't be read".to_owned(), |reason| reason.to_string());
            tracing::warn!(%key, reason, "an archive in the store is dropped");
            discard(layout, key, id);
            None
        }
    }
}

fn read(layout: &Layout, key: Key, id: ArchiveId) -> Result<Slot, Option<BadRecord>> {
    let bytes = fs::read(layout.rec(key, id)).map_err(|_| None)?;
    let record = Record::decode(&bytes).map_err(Some)?;
    let length = fs::metadata(layout.zip(key, id)).map_err(|_| None)?.len();
    if record.key != key || record.id != id || record.length != length {
        return Err(Some(BadRecord::Damaged("it is another archive's")));
    }
    let bytes = length.saturating_add(to_u64(bytes.len()));
    Ok(Slot {
        id,
        bytes,
        filled_at: record.filled_at,
        used_at: record.filled_at,
        marks: record.facts.marks(),
    })
}

fn discard(layout: &Layout, key: Key, id: ArchiveId) {
    for path in [layout.rec(key, id), layout.zip(key, id)] {
        // What can't be removed now is found again at the next start.
        let _ = fs::remove_file(path);
    }
}

fn align(index: &Index, rows: &Rows, adopted: &BTreeMap<Key, Slot>) {
    for key in rows.keys().filter(|key| !adopted.contains_key(key)) {
        index.remove(*key);
    }
    for (key, slot) in adopted.iter().filter(|(key, slot)| rows.get(key) != Some(slot)) {
        index.put(*key, *slot);
    }
}

/// Brings the shelf within a budget that may have become smaller.
fn shrink(layout: &Layout, index: &Index, shelf: &mut Shelf) {
    let Ok(victims) = shelf.reserve(0, 0, |_| false) else {
        return;
    };
    for (key, slot) in victims {
        shelf.release(slot.bytes);
        index.remove(key);
        discard(layout, key, slot.id);
    }
}
