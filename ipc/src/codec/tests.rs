//! What the codec promises, and what it does with bytes that nobody vouches for.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use proptest::prelude::{Strategy, any, proptest};
use serde_bytes::{ByteBuf, Bytes};

use super::*;
use crate::mutants::each_mutant;

mod descriptors;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Job {
    id: u64,
    name: String,
    tags: Vec<u32>,
    at: Option<f64>,
    kind: Kinds,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Kinds {
    Unit,
    New(i8),
    Tuple(u8, String),
    Struct { x: f32, inner: Box<Option<Self>> },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum List {
    Nil,
    Cons(Box<Self>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Nest(Vec<Self>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Node {
    next: Option<Box<Self>>,
}

fn job() -> Job {
    let inner = Box::new(Some(Kinds::Tuple(1, "t".into())));
    Job {
        id: 7, name: "näme".into(), tags: vec![1, 2], at: Some(0.5), kind: Kinds::Struct { x: 1.5, inner }
    }
}

/// Every function agrees on the bytes of `value` and gives it back; no prefix of the bytes does.
fn round_trip<T: Wire + PartialEq + Debug>(value: T) {
    let bytes = encode(&value).unwrap();
    let mut wire = vec![9];
    encode_wire(&value, &mut wire).unwrap();
    assert_eq!(&wire[1..], bytes, "bytes of {value:?}");
    assert_eq!(native::reference_bytes(&value), bytes, "bincode's own encoder");
    assert_eq!(
        native::reference::<T>(&bytes).unwrap(),
        (value_of(&bytes), bytes.len()),
        "bincode's own decoder"
    );
    assert_eq!(value_of::<T>(&bytes), value);
    assert_eq!(decode_wire::<T>(&wire[1..]).unwrap(), value, "from an odd address");
    check_round_trip::<T, T>(&value).unwrap();
    check_encoded::<T, T>(&bytes).unwrap();

    let mut longer = bytes.clone();
    longer.extend_from_slice(&[1, 2, 3]);
    assert_eq!(decode_prefix::<T>(&longer).unwrap(), (value, bytes.len()));
    for result in [decode::<T>(&longer), decode_wire::<T>(&longer)] {
        assert!(matches!(result, Err(CodecError::Trailing { bytes: 3, .. })), "{result:?}");
    }
    for end in 0..bytes.len() {
        for result in [decode::<T>(&bytes[..end]), decode_wire::<T>(&bytes[..end])] {
            assert!(
                matches!(result, Err(CodecError::Decode { .. } | CodecError::TooLong { .. })),
                "{end} bytes: {result:?}"
            );
        }
    }
}

fn value_of<T: Wire>(bytes: &[u8]) -> T {
    decode(bytes).unwrap()
}

#[test]
fn values_of_every_shape_come_back() {
    round_trip(());
    round_trip(true);
    round_trip('ß');
    round_trip((i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN, isize::MIN));
    round_trip((u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX, usize::MAX));
    round_trip((f32::MIN_POSITIVE, f64::INFINITY));
    round_trip("text".to_owned());
    round_trip((None::<u8>, Some(Some(3u16)), Some(None::<()>)));
    round_trip(Ok::<u8, String>(1));
    round_trip(job());
    round_trip(vec![job(), job()]);
    round_trip([Kinds::Unit, Kinds::New(-1)]);
    round_trip(BTreeMap::from([("a".to_owned(), vec![1u8]), ("b".to_owned(), vec![])]));
    round_trip(HashMap::from([((1u8, 'x'), job())]));
    round_trip(std::time::Duration::from_millis(1500));
    round_trip(vec![(); 1000]);
}

#[test]
fn arguments_of_any_number_come_back() {
    // The standard library compares tuples of up to twelve, serde sends sixteen: compare the bytes.
    fn same_bytes<T: Wire>(value: &T) {
        let bytes = encode(value).unwrap();
        assert_eq!(encode(&value_of::<T>(&bytes)).unwrap(), bytes);
        check_encoded::<T, T>(&bytes).unwrap();
    }
    macro_rules! arguments {
        ($($all:expr),*) => { arguments!(@ [] $($all),*) };
        (@ [$($head:expr),*]) => { same_bytes(&($($head,)*)) };
        (@ [$($head:expr),*] $next:expr $(, $rest:expr)*) => {
            same_bytes(&($($head,)*));
            arguments!(@ [$($head,)* $next] $($rest),*)
        };
    }
    arguments!(1u8, "b".to_owned(), 3i64, 4.0f32, [5u16; 5], Some(6u32), (), 'h');
    arguments!(
        1u8,
        vec![2u8],
        3u128,
        -4i8,
        true,
        6u64,
        7i16,
        8.5f64,
        "i".to_owned(),
        'j',
        11u8,
        12u8,
        13u8,
        14u8,
        15u8,
        16u8
    );
}

#[test]
fn numbers_in_bulk_have_the_bytes_of_the_slow_path() {
    fn same<N: bytemuck::Pod + Serialize + DeserializeOwned + PartialEq + Debug>() {
        for length in [0usize, 1, 3, 100] {
            // A pattern without the bits of a NaN.
            let memory: Vec<u8> = (0..length * size_of::<N>()).map(|n| (n % 100) as u8).collect();
            let numbers: Vec<N> =
                memory.chunks_exact(size_of::<N>()).map(bytemuck::pod_read_unaligned).collect();
            let mut fast = Vec::new();
            assert!(bulk::encode(&numbers, &mut fast), "{}", type_name::<N>());
            assert_eq!(bulk::decode::<Vec<N>>(&fast).as_ref(), Some(&numbers));
            round_trip(numbers);
        }
    }
    let all: [fn(); 6] = [same::<u8>, same::<u16>, same::<u32>, same::<u64>, same::<usize>, same::<f32>];
    all.into_iter()
        .chain([same::<i8> as fn(), same::<i16>, same::<i32>, same::<i64>, same::<isize>, same::<f64>])
        .for_each(|run| run());
    round_trip(ByteBuf::from(vec![1, 2, 3]));
    assert!(!bulk::encode(&vec![true], &mut Vec::new()));
    assert_eq!(bulk::decode::<Vec<bool>>(&encode(&vec![true]).unwrap()), None);
    assert_eq!(bulk::decode::<Vec<u16>>(&u64::MAX.to_le_bytes()), None);
}

#[test]
fn references_are_written_as_what_they_refer_to() {
    let (owned, bytes) = (job(), encode(&job()).unwrap());
    assert_eq!(encode(&&owned).unwrap(), bytes);
    assert_eq!(encode(&[owned.clone()][..]).unwrap(), encode(&vec![owned]).unwrap());
    let text = encode("text").unwrap();
    assert_eq!(text, encode(&"text".to_owned()).unwrap());
    assert_eq!(decode::<&str>(&text).unwrap(), "text");
    let raw = encode(&[1u8, 2][..]).unwrap();
    assert_eq!(raw, encode(&ByteBuf::from([1, 2])).unwrap());
    assert_eq!(raw, encode(Bytes::new(&[1, 2])).unwrap());
    let borrowed = decode::<&[u8]>(&raw).unwrap();
    assert_eq!(borrowed, [1, 2]);
    assert!(raw.as_ptr_range().contains(&borrowed.as_ptr()), "borrowed, not copied");
}

#[test]
fn a_failed_encode_leaves_the_buffer_as_it_was() {
    fn fails<S: serde::Serializer>(_: &u8, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("no"))
    }
    #[derive(Serialize)]
    struct Half(u64, #[serde(serialize_with = "fails")] u8);
    let mut out = vec![1, 2];
    let error = encode_into(&Half(1, 2), &mut out).unwrap_err();
    assert_eq!(out, [1, 2]);
    assert!(error.to_string().contains("Half` cannot be encoded: no"), "{error}");
}

#[test]
fn claimed_lengths_that_cannot_be_are_refused() {
    let longest = |claim: u64| claim.to_le_bytes().to_vec();
    for claim in [u64::MAX, 1 << 63, 1 << 60, 70_000] {
        let results = [
            ("String", decode::<String>(&longest(claim)).map(drop)),
            ("&str", decode::<&str>(&longest(claim)).map(drop)),
            ("ByteBuf", decode::<ByteBuf>(&longest(claim)).map(drop)),
            ("Vec<()>", decode::<Vec<()>>(&longest(claim)).map(drop)),
            ("Vec<u64>", decode_wire::<Vec<u64>>(&longest(claim)).map(drop)),
            ("map", decode::<HashMap<(), ()>>(&longest(claim)).map(drop)),
            ("nested", decode::<Vec<Vec<()>>>(&[longest(1), longest(claim)].concat()).map(drop)),
        ];
        for (name, result) in results {
            assert!(
                matches!(&result, Err(CodecError::TooLong { claimed, .. }) if *claimed == claim),
                "{name} of {claim}: {result:?}"
            );
        }
    }
}

#[test]
fn elements_without_bytes_share_one_allowance() {
    round_trip(vec![(); FREE_ELEMENTS]);
    let piece = (FREE_ELEMENTS as u64 / 2).to_le_bytes().to_vec();
    let message = |pieces: u64| [pieces.to_le_bytes().to_vec(), piece.repeat(pieces as usize)].concat();
    assert!(decode::<Vec<Vec<()>>>(&message(2)).is_ok());
    assert!(matches!(decode::<Vec<Vec<()>>>(&message(3)), Err(CodecError::TooLong { .. })));
    let bytes = encode(&vec![vec![1u8; 1000]; 1000]).unwrap();
    assert!(decode::<Vec<Vec<u8>>>(&bytes).is_ok(), "elements with bytes do not draw on it");
}

#[test]
fn collections_allocate_no_more_than_the_input_can_fill() {
    struct Hint(Option<usize>);
    impl<'de> Deserialize<'de> for Hint {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visit;
            impl<'de> serde::de::Visitor<'de> for Visit {
                type Value = Hint;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("a sequence")
                }
                fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<Hint, A::Error> {
                    Ok(Hint(seq.size_hint()))
                }
            }
            deserializer.deserialize_seq(Visit)
        }
    }
    let bytes = [60_000u64.to_le_bytes(), [0; 8]].concat();
    assert_eq!(decode_prefix::<Hint>(&bytes).unwrap().0.0, Some(8));
}

#[test]
fn deep_nesting_is_an_error_and_not_a_stack_overflow() {
    let cons = |depth: usize| [1u32.to_le_bytes().repeat(depth), 0u32.to_le_bytes().to_vec()].concat();
    let nest = |depth: usize| [1u64.to_le_bytes().repeat(depth), 0u64.to_le_bytes().to_vec()].concat();
    let node = |depth: usize| [vec![1; depth], vec![0]].concat();
    let deep =
        |result: Result<(), CodecError>| matches!(result, Err(CodecError::TooDeep { limit: MAX_DEPTH, .. }));
    for depth in [MAX_DEPTH, 1_000_000] {
        assert!(deep(decode::<List>(&cons(depth)).map(drop)), "List, {depth}");
        assert!(deep(decode::<Nest>(&nest(depth)).map(drop)), "Nest, {depth}");
        assert!(deep(decode::<Node>(&node(depth)).map(drop)), "Node, {depth}");
    }
    assert!(decode::<List>(&cons(MAX_DEPTH - 1)).is_ok());
    assert!(decode::<Nest>(&nest(MAX_DEPTH - 1)).is_ok());
    assert!(decode::<Node>(&node(MAX_DEPTH / 2 - 1)).is_ok());
    assert!(deep(check_encoded::<List, List>(&cons(MAX_DEPTH))));
    // Both sides count alike: what may be written can be read.
    let list = |links: usize| (0..links).fold(List::Nil, |rest, _| List::Cons(Box::new(rest)));
    let nested = |levels: usize| (0..levels).fold(Nest(vec![]), |inner, _| Nest(vec![inner]));
    let chain =
        |links: usize| (0..links).fold(Node { next: None }, |next, _| Node { next: Some(Box::new(next)) });
    round_trip(list(MAX_DEPTH - 1));
    round_trip(nested(MAX_DEPTH - 1));
    round_trip(chain(MAX_DEPTH / 2 - 1));
    assert!(deep(encode(&list(MAX_DEPTH)).map(drop)));
    assert!(deep(encode(&nested(MAX_DEPTH)).map(drop)));
    assert!(deep(encode(&chain(MAX_DEPTH / 2)).map(drop)));
    let siblings: Vec<Option<(u8, Kinds)>> = vec![Some((1, Kinds::New(2))); 200];
    round_trip(siblings);
}

#[test]
fn nonsense_is_named() {
    let cases: [(&str, Result<(), CodecError>, &str); 7] = [
        ("bool", decode::<bool>(&[2]).map(drop), "neither true nor false"),
        ("option", decode::<Option<u8>>(&[2, 0]).map(drop), "neither `None` nor `Some`"),
        ("utf-8", decode::<String>(&[1, 0, 0, 0, 0, 0, 0, 0, 0xff]).map(drop), "utf-8"),
        ("char", decode::<char>(&[0xff]).map(drop), "not a `char`"),
        ("variant", decode::<Kinds>(&[9, 0, 0, 0]).map(drop), "variant index"),
        ("short", decode::<u64>(&[1, 2, 3]).map(drop), "5 bytes too early"),
        ("any", decode::<serde_json::Value>(&[0; 9]).map(drop), "compact format"),
    ];
    for (name, result, expected) in cases {
        let text = result.unwrap_err().to_string();
        assert!(text.contains(expected), "{name}: {text}");
    }
    assert!(matches!(decode::<serde_json::Value>(&[0]), Err(CodecError::NotSelfDescribing { .. })));
    assert!(matches!(decode::<serde::de::IgnoredAny>(&[0]), Err(CodecError::NotSelfDescribing { .. })));
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    A { x: u8 },
}

#[derive(Serialize, Deserialize)]
struct Flat {
    #[serde(flatten)]
    inner: Node,
}

#[derive(Serialize, Deserialize)]
struct Skips {
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<u8>,
    second: u64,
}

#[derive(Serialize)]
struct Long(u8, u8);

#[derive(Deserialize)]
struct Short(#[expect(dead_code)] u8);

#[test]
fn a_type_that_cannot_be_read_back_is_refused_each_time() {
    for _ in 0..2 {
        let cases = [
            ("untagged", check_round_trip::<_, Untagged>(&Untagged::Number(1)), "untagged"),
            ("tag", check_round_trip::<_, Tagged>(&Tagged::A { x: 1 }), "tag = .."),
            ("flatten", check_round_trip::<_, Flat>(&Flat { inner: Node { next: None } }), "flatten"),
            ("json", check_round_trip::<_, serde_json::Value>(&serde_json::json!([1])), "serde_json::Value"),
            ("skip", check_round_trip::<_, Skips>(&Skips { first: None, second: 0 }), "skip_serializing_if"),
            ("longer", check_round_trip::<_, Short>(&Long(1, 2)), "1 bytes are left over"),
        ];
        for (name, result, expected) in cases {
            let error = result.unwrap_err();
            assert!(matches!(error, CodecError::NotRoundTrip { .. }), "{name}: {error:?}");
            assert!(error.to_string().contains(expected), "{name}: {error}");
        }
    }
}

#[test]
fn a_value_that_leaves_something_out_is_refused_however_many_passed_before() {
    check_round_trip::<_, Skips>(&Skips { first: Some(1), second: 0 }).unwrap();
    let error = encode(&Skips { first: None, second: 0 }).unwrap_err();
    assert!(matches!(error, CodecError::NotRoundTrip { .. }), "{error:?}");
    assert!(error.to_string().contains("`first`"), "{error}");

    struct Miscounts(usize);
    impl Serialize for Miscounts {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut seq = serializer.serialize_seq(Some(self.0))?;
            serde::ser::SerializeSeq::serialize_element(&mut seq, &1u8)?;
            serde::ser::SerializeSeq::end(seq)
        }
    }
    assert!(encode(&Miscounts(1)).is_ok());
    for announced in [0, 2] {
        let error = encode(&Miscounts(announced)).unwrap_err();
        assert!(error.to_string().contains(&format!("announced {announced} parts and wrote 1")), "{error}");
    }
}

#[test]
fn the_check_is_made_once_for_each_pair_of_types() {
    let good = encode(&Long(1, 2)).unwrap();
    assert!(check_encoded::<Long, (u8, u8)>(&good).is_ok());
    assert!(check_encoded::<Long, (u8, u8)>(&[]).is_ok(), "passed before");
    assert!(check_encoded::<(u8, u8), (u8, u8)>(&[]).is_err(), "another pair");
    assert!(check_encoded::<Long, (u8, i8)>(&[]).is_err(), "another pair");
    let other = std::thread::spawn(|| check_encoded::<Long, (u8, u8)>(&[]).is_err());
    assert!(other.join().unwrap(), "another thread");
}

#[test]
fn what_insists_on_borrowing_passes_undecided() {
    #[derive(Serialize, Deserialize)]
    struct View<'a> {
        #[serde(borrow)]
        text: std::borrow::Cow<'a, str>,
        bytes: &'a [u8],
    }
    let local = "local".to_owned();
    check_round_trip::<&str, &'static str>(&local.as_str()).unwrap();
    check_round_trip::<[u8], &'static [u8]>(&[1, 2]).unwrap();
    check_round_trip::<_, View<'static>>(&View { text: "a".into(), bytes: &[1] }).unwrap();
    check_round_trip::<&Job, Job>(&&job()).unwrap();
    assert!(check_encoded::<u8, u8>(&[]).is_err(), "only borrowing is excused");
}

#[test]
fn mutated_messages_return() {
    let seeds: [Vec<u8>; 4] = [
        encode(&vec![vec![1u8, 2], vec![], vec![3; 20]]).unwrap(),
        encode(&(2u32, "name", 2u64, 0u32, 5i16, 1u32, 0u32, 6i16, 0u32, 7i16)).unwrap(),
        encode(&Some(vec![Some("a"), None, Some("bc")])).unwrap(),
        encode(&BTreeMap::from([("k", (1u8, vec![(); 9]))])).unwrap(),
    ];
    each_mutant(&seeds, 20_000, fuzz_decode);
}

fn kinds() -> impl Strategy<Value = Kinds> {
    let leaf = (any::<u8>(), any::<String>()).prop_map(|(n, text)| Kinds::Tuple(n, text));
    leaf.prop_recursive(8, 16, 1, |inner| {
        (-1e9f32..1e9, inner).prop_map(|(x, kind)| Kinds::Struct { x, inner: Box::new(Some(kind)) })
    })
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz_decode(&bytes);
        let _ = decode::<Job>(&bytes);
        let _ = check_encoded::<Kinds, Job>(&bytes);
    }

    #[test]
    fn random_values_come_back(id: u64, name: String, tags: Vec<u32>, kind in kinds()) {
        round_trip(Job { id, name, tags, at: None, kind });
    }
}
