//! The little of X.509 that the page needs: to write a certificate that signs itself, and to read when one
//! ends. A library for it would bring eight crates onto the device.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const IDENTIFIER: u8 = 0x06;
const UTF8: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const LONG_TIME: u8 = 0x18;
/// ECDSA with SHA-256; a public key on a curve; the curve P-256.
const SIGNATURE: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// A common name; the extensions for other names, constraints, and use by servers.
const NAME: &[u8] = &[0x55, 0x04, 0x03];
const OTHER_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
const CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const USE: &[u8] = &[0x55, 0x1d, 0x25];
const SERVERS: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/// A value with its kind and length.
fn value(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut all = vec![kind];
    match content.len() {
        short @ 0..128 => all.push(short as u8),
        _ => {
            all.push(0x80 | significant.len() as u8);
            all.extend(significant);
        }
    }
    all.extend(content);
    all
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    value(SEQUENCE, &parts.concat())
}

fn algorithm() -> Vec<u8> {
    sequence(&[value(IDENTIFIER, SIGNATURE)])
}

/// A bit string of whole bytes.
fn bits(bytes: &[u8]) -> Vec<u8> {
    value(BIT_STRING, &[&[0], bytes].concat())
}

/// A certificate that signs itself, without its signature. It is valid until the end of `year`, for the
/// machine's name, `localhost` and these addresses.
pub(super) fn to_be_signed(
    serial: &[u8; 16],
    machine: &str,
    addresses: &[IpAddr],
    year: u64,
    public_key: &[u8],
) -> Vec<u8> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let machine = match !machine.is_empty() && machine.len() <= 64 && machine.chars().all(is_name) {
        true => machine,
        false => "weakrest",
    };
    let mut names: Vec<Vec<u8>> = [machine, "localhost"].map(|name| value(0x82, name.as_bytes())).into();
    let own: [IpAddr; 2] = [[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()];
    let further = addresses.iter().filter(|address| !address.is_unspecified() && !own.contains(address));
    names.extend(own.iter().chain(further).map(|address| match address {
        IpAddr::V4(address) => value(0x87, &address.octets()),
        IpAddr::V6(address) => value(0x87, &address.octets()),
    }));
    let extension =
        |kind: &[u8], content: &[u8]| sequence(&[value(IDENTIFIER, kind), value(OCTET_STRING, content)]);
    let extensions = sequence(&[
        extension(OTHER_NAMES, &sequence(&names)),
        extension(CONSTRAINTS, &sequence(&[])),
        extension(USE, &sequence(&[value(IDENTIFIER, SERVERS)])),
    ]);
    let called =
        sequence(&[value(SET, &sequence(&[value(IDENTIFIER, NAME), value(UTF8, machine.as_bytes())]))]);
    // A first byte of 1 to 127: positive, and no zeros in front.
    let serial = [&[serial[0] & 0x7f | 1], &serial[1..]].concat();
    sequence(&[
        value(0xa0, &value(INTEGER, &[2])),
        value(INTEGER, &serial),
        algorithm(),
        called.clone(),
        // It begins before any clock that may be wrong. Times to 2049 are written short.
        sequence(&[value(UTC_TIME, b"000101000000Z"), end(year)]),
        called,
        sequence(&[sequence(&[value(IDENTIFIER, PUBLIC_KEY), value(IDENTIFIER, P256)]), bits(public_key)]),
        value(0xa3, &extensions),
    ])
}

fn end(year: u64) -> Vec<u8> {
    match year {
        2000..2050 => value(UTC_TIME, format!("{:02}1231235959Z", year % 100).as_bytes()),
        _ => value(LONG_TIME, format!("{year:04}1231235959Z").as_bytes()),
    }
}

/// A certificate with its signature.
pub(super) fn signed(to_be_signed: &[u8], signature: &[u8]) -> Vec<u8> {
    sequence(&[to_be_signed.to_vec(), algorithm(), bits(signature)])
}

/// The first value: its kind, its content, and what follows it.
fn first(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..128 => (usize::from(*length), rest),
        _ => {
            let digits = usize::from(length & 0x7f);
            let (digits, rest) = rest.split_at_checked(digits).filter(|_| (1..=4).contains(&digits))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*kind, content, rest))
}

/// When a certificate ends. `None` if that cannot be read.
pub(super) fn end_of(certificate: &[u8]) -> Option<SystemTime> {
    let of = |bytes| first(bytes).filter(|(kind, ..)| *kind == SEQUENCE).map(|(_, content, _)| content);
    let mut rest = of(of(certificate)?)?;
    // Maybe a version; serial number, algorithm, issuer.
    if first(rest)?.0 == 0xa0 {
        rest = first(rest)?.2;
    }
    for _ in 0..3 {
        rest = first(rest)?.2;
    }
    let (_, _, end) = first(of(rest)?)?;
    let (kind, text, _) = first(end)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let number = |text: &str| text.parse::<u64>().ok();
    let (year, text) = match kind {
        UTC_TIME => {
            let (year, text) = text.split_at_checked(2)?;
            let year = number(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text)
        }
        LONG_TIME => {
            let (year, text) = text.split_at_checked(4)?;
            (number(year)?, text)
        }
        _ => return None,
    };
    let two = |i: usize| number(text.get(2 * i..2 * i + 2)?);
    let days = days_before(year, two(0)?, two(1)?)?;
    let seconds = 3600 * two(2)? + 60 * two(3)? + two(4)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(86400 * days + seconds))
}

/// Days from 1970 to a date. Years begin in March, so that a leap day is the last of its year.
fn days_before(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = (month + 9) % 12;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * from_march + 2) / 5 + day - 1;
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::civil;

    #[test]
    fn dates_are_read_as_they_are_told() {
        for (year, month, day) in [(1970, 1, 1), (2000, 2, 29), (2026, 12, 31), (2100, 3, 1), (9999, 12, 31)]
        {
            let days = days_before(year, month, day).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(86400 * days);
            assert_eq!(civil(time)[..3], [year, month, day]);
        }
        assert_eq!(days_before(2026, 13, 1), None);
    }

    #[test]
    fn the_end_of_certificates_is_read_whoever_made_them() {
        for year in [2036, 2049, 2050, 2123] {
            let own = signed(&to_be_signed(&[0; 16], "line-7", &[], year, &[4; 65]), &[1; 70]);
            assert_eq!(civil(end_of(&own).unwrap())[..6], [year, 12, 31, 23, 59, 59]);
            let mut params = rcgen::CertificateParams::new(vec!["line-7.plant".into()]).unwrap();
            params.not_after = rcgen::date_time_ymd(i32::try_from(year).unwrap(), 3, 9);
            let key = rcgen::KeyPair::generate().unwrap();
            let theirs = params.self_signed(&key).unwrap();
            assert_eq!(civil(end_of(theirs.der()).unwrap())[..3], [year, 3, 9]);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_wrong(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..300, byte: u8) {
            end_of(&bytes);
            let mut own = signed(&to_be_signed(&[7; 16], "a", &[], 2036, &[4; 65]), &[1; 70]);
            let at = at % own.len();
            own[at] = byte;
            end_of(&own);
        }
    }
}
