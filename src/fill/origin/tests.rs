//! What comes of asking an origin.

use http::HeaderValue;

use super::script::ScriptedOrigin;
use super::*;
use crate::fill::waiters::tests::requester;

const BYTES: &[u8] = b"PK\x05\x06 and so on";

/// What a request for a span brings: the bytes, or the name of why there are none.
async fn fetched(origin: &ScriptedOrigin, request: ByteRequest<'_>) -> Result<Bytes, String> {
    let origin: &dyn ArchiveOrigin = origin;
    match origin.fetch(request).await {
        Ok(response) => Ok(response.collect().await.unwrap()),
        Err(none) => Err(format!("{none:?}")),
    }
}

#[tokio::test]
async fn bytes_come_from_the_answer_or_from_where_it_leads() {
    let requester = requester(1);
    for (in_store, steps) in [(false, &["locate"][..]), (true, &["locate", "read"])] {
        let origin = ScriptedOrigin::new(BYTES, in_store);
        for (span, expected) in
            [(Span::Between(2, 4), &BYTES[2..4]), (Span::From(5), &BYTES[5..]), (Span::Last(3), b" on")]
        {
            origin.asked.lock().clear();
            let request = ByteRequest::part(&requester, span, Insists::No);
            assert_eq!(fetched(&origin, request).await.as_deref(), Ok(expected));
            let asked: Vec<_> = origin.asked.lock().iter().map(|(step, _)| *step).collect();
            assert_eq!(asked, steps);
        }
        assert_eq!(fetched(&origin, ByteRequest::all(&requester)).await.as_deref(), Ok(BYTES));
    }
}

#[tokio::test]
async fn one_place_is_read_by_several_at_once() {
    let (requester, origin) = (requester(1), ScriptedOrigin::new(BYTES, true));
    let origin: &dyn ArchiveOrigin = &origin;
    let ByteSource::Store(from, _) = origin.locate(ByteRequest::all(&requester)).await.unwrap() else {
        panic!("it is in a store");
    };
    let part = |first, end| ByteRequest::part(&requester, Span::Between(first, end), Insists::No);
    let (first, second) =
        tokio::join!(origin.read_as_asked(&from, part(0, 4)), origin.read_as_asked(&from, part(4, 8)));
    assert_eq!(first.unwrap().collect().await.as_deref(), Some(&BYTES[..4]));
    assert_eq!(second.unwrap().collect().await.as_deref(), Some(&BYTES[4..8]));
}

#[tokio::test]
async fn all_answers_to_a_request_for_a_part_and_another_part_does_not() {
    let requester = requester(1);
    let mut origin = ScriptedOrigin::new(BYTES, true);
    origin.in_parts = false;
    let request = ByteRequest::part(&requester, Span::Between(2, 4), Insists::No);
    assert_eq!(fetched(&origin, request).await.as_deref(), Ok(BYTES));
    // It says that it is longer than what it gives.
    origin.facts.length = Some(1000);
    assert_eq!(fetched(&origin, request).await, Err("NoPart".to_owned()));
}

#[tokio::test]
async fn more_of_another_archive_is_none() {
    let requester = requester(1);
    let mut origin = ScriptedOrigin::new(BYTES, true);
    let tag = HeaderValue::from_static;
    origin.validator = Some(tag("\"a\""));
    let known = origin.facts.clone();
    let part = ByteRequest::part(&requester, Span::From(2), Insists::Yes);
    let changed = Err("Changed".to_owned());
    for (validator, same) in [(None, true), (Some(tag("\"a\"")), true), (Some(tag("\"b\"")), false)] {
        let got = fetched(&origin, part.more_of(&known, validator.as_ref())).await;
        assert_eq!(got.is_ok(), same, "{validator:?}");
        assert!(same || got == changed);
    }
    let elsewhere = Facts { object: None, ..known.clone() };
    assert_eq!(fetched(&origin, part.more_of(&elsewhere, None)).await, changed);
    let longer = Facts { length: Some(1000), ..known };
    assert_eq!(fetched(&origin, part.more_of(&longer, None)).await, changed);
}

#[tokio::test]
async fn nothing_is_read_without_a_yes() {
    let (requester, origin) = (requester(1), ScriptedOrigin::new(BYTES, true));
    for none in [NoBytes::Later, NoBytes::StoreDown] {
        let expected = format!("{none:?}");
        origin.instead.lock().push(none);
        let request = ByteRequest::part(&requester, Span::From(0), Insists::No);
        assert_eq!(fetched(&origin, request).await, Err(expected));
        assert_eq!(origin.asked.lock().drain(..).collect::<Vec<_>>(), [("locate", Some(Span::From(0)))]);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_shows_how_it_began() {
    let mut body = Fetched::for_test(BYTES, BYTES.len() - 3).await;
    let (first, error) = first_bytes(&mut body).await;
    assert_eq!((&*first, error.is_some()), (&BYTES[..3], true));
    let mut short = Fetched::for_test(b"PK", 0).await;
    let (first, error) = first_bytes(&mut short).await;
    assert_eq!((&*first, error.is_some()), (&b"PK"[..], false));
}
