//! A certificate for tests, made on the spot (X.509 version 3, RFC 5280; key and signature as in
//! RFC 5480 and RFC 5758).

use std::io;
use std::net::IpAddr;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
/// `ecdsa-with-SHA256`.
const ECDSA_SHA256: &[u8] = &[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// `id-ecPublicKey` on `prime256v1`.
const P256: &[u8] = &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
/// `id-at-commonName`.
const COMMON_NAME: &[u8] = &[6, 3, 0x55, 4, 3];
/// `id-ce-subjectAltName`.
const SUBJECT_ALT_NAME: &[u8] = &[6, 3, 0x55, 0x1d, 0x11];

/// A self-signed certificate and its key. The certificate is its own trust anchor.
#[derive(Clone)]
pub struct Certificate {
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// The private key, PKCS #8 DER.
    pub key: Vec<u8>,
}

impl Certificate {
    /// A fresh P-256 certificate for these names, of which addresses are recognised. Valid from 2020 to 2049.
    pub fn self_signed(names: &[&str]) -> io::Result<Self> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(failed)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.as_ref(), &random)
            .map_err(|error| io::Error::other(error.to_string()))?;
        let body = to_be_signed(names, pair.public_key().as_ref());
        let signature = pair.sign(&random, &body).map_err(failed)?;
        let signature = tlv(BIT_STRING, &[&[0], signature.as_ref()]);
        let der = tlv(SEQUENCE, &[&body, &tlv(SEQUENCE, &[ECDSA_SHA256]), &signature]);
        Ok(Self { der, key: key.as_ref().to_vec() })
    }
}

fn failed(_: ring::error::Unspecified) -> io::Error {
    io::Error::other("no random numbers")
}

fn to_be_signed(names: &[&str], public_key: &[u8]) -> Vec<u8> {
    let common = tlv(UTF8_STRING, &[b"gitlab-standin"]);
    let name = tlv(SEQUENCE, &[&tlv(SET, &[&tlv(SEQUENCE, &[COMMON_NAME, &common])])]);
    let from = tlv(UTC_TIME, &[b"200101000000Z"]);
    let until = tlv(UTC_TIME, &[b"491231235959Z"]);
    let key = tlv(SEQUENCE, &[&tlv(SEQUENCE, &[P256]), &tlv(BIT_STRING, &[&[0], public_key])]);
    tlv(
        SEQUENCE,
        &[
            &tlv(0xa0, &[&tlv(INTEGER, &[&[2]])]),
            &tlv(INTEGER, &[&[1]]),
            &tlv(SEQUENCE, &[ECDSA_SHA256]),
            &name,
            &tlv(SEQUENCE, &[&from, &until]),
            &name,
            &key,
            &tlv(0xa3, &[&tlv(SEQUENCE, &[&alternative_names(names)])]),
        ],
    )
}

fn alternative_names(names: &[&str]) -> Vec<u8> {
    let names: Vec<u8> = names.iter().flat_map(|name| general_name(name)).collect();
    tlv(SEQUENCE, &[SUBJECT_ALT_NAME, &tlv(OCTET_STRING, &[&tlv(SEQUENCE, &[&names])])])
}

fn general_name(name: &str) -> Vec<u8> {
    match name.parse() {
        Ok(IpAddr::V4(address)) => tlv(0x87, &[&address.octets()]),
        Ok(IpAddr::V6(address)) => tlv(0x87, &[&address.octets()]),
        Err(_) => tlv(0x82, &[name.as_bytes()]),
    }
}

/// Tag, length, value (X.690, section 8.1).
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let mut out = vec![tag];
    match u8::try_from(value.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let len = value.len().to_be_bytes();
            let digits: Vec<u8> = len.into_iter().skip_while(|byte| *byte == 0).collect();
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or(8));
            out.extend(digits);
        }
    }
    out.extend(value);
    out
}
