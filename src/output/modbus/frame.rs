//! Frames of Modbus TCP: the header, the requests that are known, and their answers.

/// Bytes before the function code: transaction, protocol, length, unit.
pub(super) const HEADER: usize = 7;
/// The longest request or answer without the header.
const MOST: usize = 253;
/// The most that one request may read or write.
const MOST_BITS: u16 = 2000;
const MOST_READ: u16 = 125;
const MOST_WRITTEN: u16 = 123;
const MOST_EXCHANGED: u16 = 121;

/// Why a request is not carried out, with the numbers of the standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exception {
    IllegalFunction = 1,
    IllegalAddress = 2,
    IllegalValue = 3,
    DeviceFailure = 4,
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub from: u16,
    pub count: u16,
}

impl Range {
    fn new(from: u16, count: u16, most: u16) -> Result<Range, Exception> {
        if !(1..=most).contains(&count) {
            return Err(Exception::IllegalValue);
        }
        Ok(Range { from, count })
    }

    /// Its addresses.
    ///
    /// # Errors
    /// [`Exception::IllegalAddress`] beyond the last address.
    pub fn addresses(self) -> Result<impl Iterator<Item = u16>, Exception> {
        let last = self.from.checked_add(self.count - 1).ok_or(Exception::IllegalAddress)?;
        Ok(self.from..=last)
    }
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// Functions 1 and 2.
    ReadBits(Range),
    /// Functions 3 and 4.
    Read(Range),
    /// Functions 6 and 16.
    Write { from: u16, values: Vec<u16> },
    /// Function 23: writes, then reads.
    Exchange { from: u16, values: Vec<u16>, read: Range },
}

/// The length of the request after a header. `None` if this is no Modbus: the rest cannot be told apart then.
pub(super) fn length(header: &[u8; HEADER]) -> Option<usize> {
    let [_, _, 0, 0, high, low, _] = *header else { return None };
    let length = usize::from(u16::from_be_bytes([high, low])).checked_sub(1)?;
    (1..=MOST).contains(&length).then_some(length)
}

/// Reads a request. `pdu` begins with the function code.
///
/// # Errors
/// What the client is told.
pub(super) fn request(pdu: &[u8]) -> Result<Request, Exception> {
    let (function, body) = pdu.split_first().ok_or(Exception::IllegalFunction)?;
    match (function, body) {
        (1 | 2, &[a, b, c, d]) => Range::new(word(a, b), word(c, d), MOST_BITS).map(Request::ReadBits),
        (3 | 4, &[a, b, c, d]) => Range::new(word(a, b), word(c, d), MOST_READ).map(Request::Read),
        (6, &[a, b, c, d]) => Ok(Request::Write { from: word(a, b), values: vec![word(c, d)] }),
        (16, &[a, b, c, d, bytes, ref values @ ..]) => {
            let values = words(word(c, d), MOST_WRITTEN, bytes, values)?;
            Ok(Request::Write { from: word(a, b), values })
        }
        (23, &[a, b, c, d, e, f, g, h, bytes, ref values @ ..]) => {
            let read = Range::new(word(a, b), word(c, d), MOST_READ)?;
            let values = words(word(g, h), MOST_EXCHANGED, bytes, values)?;
            Ok(Request::Exchange { from: word(e, f), values, read })
        }
        // The right function with a body of another length.
        (1..=4 | 6 | 16 | 23, _) => Err(Exception::IllegalValue),
        _ => Err(Exception::IllegalFunction),
    }
}

fn word(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high, low])
}

fn words(count: u16, most: u16, bytes: u8, values: &[u8]) -> Result<Vec<u16>, Exception> {
    let length = 2 * usize::from(count);
    if !(1..=most).contains(&count) || usize::from(bytes) != length || values.len() != length {
        return Err(Exception::IllegalValue);
    }
    Ok(values.chunks_exact(2).map(|pair| word(pair[0], pair[1])).collect())
}

/// What a client is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Bits(Vec<bool>),
    Registers(Vec<u16>),
    /// As the standard wants it: the request's first address, and its value or their number.
    Written([u8; 4]),
}

/// A whole frame, in answer to a request with this header and function code.
pub(super) fn answer(header: &[u8; HEADER], function: u8, answer: Result<Answer, Exception>) -> Vec<u8> {
    // The length follows below.
    let mut frame = vec![header[0], header[1], 0, 0, 0, 0, header[6]];
    match answer {
        Ok(Answer::Bits(bits)) => {
            let bytes = bits
                .chunks(8)
                .map(|bits| bits.iter().enumerate().fold(0, |byte, (i, bit)| byte | (u8::from(*bit) << i)));
            frame.extend([function, bits.len().div_ceil(8) as u8]);
            frame.extend(bytes);
        }
        Ok(Answer::Registers(values)) => {
            frame.extend([function, 2 * values.len() as u8]);
            frame.extend(values.iter().flat_map(|value| value.to_be_bytes()));
        }
        Ok(Answer::Written(told)) => {
            frame.push(function);
            frame.extend(told);
        }
        Err(exception) => frame.extend([function | 0x80, exception as u8]),
    }
    let length = (frame.len() - HEADER + 1) as u16;
    frame[4..6].copy_from_slice(&length.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_read_as_the_standard_writes_them() {
        let read = |from, count| Range { from, count };
        for (pdu, expected) in [
            (&[1, 0, 19, 0, 19][..], Ok(Request::ReadBits(read(19, 19)))),
            (&[3, 0, 107, 0, 3], Ok(Request::Read(read(107, 3)))),
            (&[4, 0, 8, 0, 125], Ok(Request::Read(read(8, 125)))),
            (&[6, 0, 1, 0, 3], Ok(Request::Write { from: 1, values: vec![3] })),
            (&[16, 0, 1, 0, 2, 4, 0, 10, 1, 2], Ok(Request::Write { from: 1, values: vec![10, 258] })),
            (
                &[23, 0, 3, 0, 6, 0, 14, 0, 1, 2, 0, 255],
                Ok(Request::Exchange { from: 14, values: vec![255], read: read(3, 6) }),
            ),
            (&[2, 0, 0, 7, 209], Err(Exception::IllegalValue)),
            (&[3, 0, 0, 0, 0], Err(Exception::IllegalValue)),
            (&[3, 0, 0, 0, 126], Err(Exception::IllegalValue)),
            (&[3, 0, 0, 0], Err(Exception::IllegalValue)),
            (&[6, 0, 1, 0, 3, 0], Err(Exception::IllegalValue)),
            (&[16, 0, 1, 128, 0, 0], Err(Exception::IllegalValue)),
            (&[16, 0, 1, 0, 2, 4, 0, 10, 1], Err(Exception::IllegalValue)),
            (&[23, 0, 3, 0, 6, 0, 14, 255, 255, 2, 0, 255], Err(Exception::IllegalValue)),
            (&[5, 0, 1, 255, 0], Err(Exception::IllegalFunction)),
            (&[0x2b, 14, 1, 0], Err(Exception::IllegalFunction)),
            (&[0x83, 2], Err(Exception::IllegalFunction)),
            (&[], Err(Exception::IllegalFunction)),
        ] {
            assert_eq!(request(pdu), expected, "{pdu:?}");
        }
        assert_eq!(read(65535, 1).addresses().map(Iterator::count), Ok(1));
        assert!(read(65535, 2).addresses().is_err());
    }

    #[test]
    fn answers_are_written_as_the_standard_reads_them() {
        let header = [0x12, 0x34, 0, 0, 0, 6, 9];
        let bits = [true, false, true, true, false, false, true, true, true];
        for (function, told, expected) in [
            (2, Ok(Answer::Bits(bits.into())), &[0x12, 0x34, 0, 0, 0, 5, 9, 2, 2, 0xcd, 1][..]),
            (3, Ok(Answer::Registers(vec![258, 3])), &[0x12, 0x34, 0, 0, 0, 7, 9, 3, 4, 1, 2, 0, 3]),
            (6, Ok(Answer::Written([0, 50, 0, 2])), &[0x12, 0x34, 0, 0, 0, 6, 9, 6, 0, 50, 0, 2]),
            (3, Err(Exception::IllegalAddress), &[0x12, 0x34, 0, 0, 0, 3, 9, 0x83, 2]),
        ] {
            assert_eq!(answer(&header, function, told), expected);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(pdu in vec(any::<u8>(), 0..260), function in 0u8..30, header: [u8; HEADER]) {
            let _ = (request(&pdu), length(&header));
            let named: Vec<u8> = std::iter::once(function).chain(pdu).collect();
            if let Ok(Request::Read(range)) = request(&named) {
                prop_assert!(range.count <= MOST_READ);
                let _ = range.addresses().map(Iterator::count);
            }
        }

        #[test]
        fn a_header_with_another_protocol_or_length_is_none(header: [u8; HEADER]) {
            let stated = usize::from(word(header[4], header[5]));
            let is_one = header[2..4] == [0, 0] && (2..=MOST + 1).contains(&stated);
            prop_assert_eq!(length(&header), is_one.then(|| stated - 1));
        }
    }
}
