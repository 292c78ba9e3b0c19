//! Bytes, written and read: numbers as short as they are, and never more than there is.

use std::time::Duration;

/// Bytes that say nothing that can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Garbled;

impl std::fmt::Display for Garbled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a record that does not read")
    }
}

impl std::error::Error for Garbled {}

/// Bytes that are being written.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// What was written.
    pub fn done(self) -> Vec<u8> {
        self.bytes
    }

    /// One byte.
    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Two bytes.
    pub fn short(&mut self, number: u16) {
        self.bytes(&number.to_be_bytes());
    }

    /// Four bytes.
    pub fn word(&mut self, number: u32) {
        self.bytes(&number.to_be_bytes());
    }

    /// Seven bits to the byte, the lowest first.
    #[expect(clippy::cast_possible_truncation, reason = "the lowest seven bits")]
    pub fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.byte(number as u8 | 0x80);
            number >>= 7;
        }
        self.byte(number as u8);
    }

    /// A number of single precision.
    #[expect(clippy::cast_possible_truncation, reason = "that is what it promises")]
    pub fn single(&mut self, number: f64) {
        self.word((number as f32).to_bits());
    }

    /// A number of which two decimals count: the upper half of a single. Write what [`rounded`]
    /// gives, and it comes out as it went in.
    #[expect(clippy::cast_possible_truncation, reason = "that is what it promises")]
    pub fn half(&mut self, number: f64) {
        self.short(((rounded(number) as f32).to_bits() >> 16) as u16);
    }

    /// Milliseconds.
    pub fn duration(&mut self, duration: Duration) {
        self.varint(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    }

    /// A short text: what is beyond 64 bytes is left out.
    pub fn text(&mut self, text: &str) {
        let mut end = text.len().min(MOST_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = text.get(..end).unwrap_or_default();
        self.varint(text.len() as u64);
        self.bytes(text.as_bytes());
    }
}

/// Longer texts are cut.
const MOST_TEXT: usize = 64;
/// A year and more: nothing here lasts so long.
const LONGEST: Duration = Duration::from_secs(400 * 86_400);

/// The nearest number that [`Writer::half`] can say.
#[expect(clippy::cast_possible_truncation, reason = "rounding is what it is for")]
pub fn rounded(number: f64) -> f64 {
    let bits = (number as f32).to_bits();
    // Half of the last bit that is kept; where that carries into infinity, the bits are cut.
    let up = f32::from_bits((bits.saturating_add(0x8000)) & 0xFFFF_0000);
    let kept = if up.is_finite() { up } else { f32::from_bits(bits & 0xFFFF_0000) };
    f64::from(kept)
}

/// Bytes that are being read.
#[derive(Debug, Clone)]
pub struct Reader<'d> {
    rest: &'d [u8],
}

impl<'d> Reader<'d> {
    /// From the first of them.
    pub fn new(bytes: &'d [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<&'d [u8], Garbled> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Garbled)?;
        self.rest = rest;
        Ok(taken)
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'d [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Garbled> {
        self.take(N)?.try_into().map_err(|_| Garbled)
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, Garbled> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes.
    pub fn short(&mut self) -> Result<u16, Garbled> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes.
    pub fn word(&mut self) -> Result<u32, Garbled> {
        self.array().map(u32::from_be_bytes)
    }

    /// See [`Writer::varint`]; ten bytes at most.
    pub fn varint(&mut self) -> Result<u64, Garbled> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                return Err(Garbled);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Garbled)
    }

    /// A varint that fits a smaller number.
    pub fn number<T: TryFrom<u64>>(&mut self) -> Result<T, Garbled> {
        T::try_from(self.varint()?).map_err(|_| Garbled)
    }

    /// A sum: finite and not negative.
    pub fn single(&mut self) -> Result<f64, Garbled> {
        sum(f32::from_bits(self.word()?))
    }

    /// The same of [`Writer::half`].
    pub fn half(&mut self) -> Result<f64, Garbled> {
        sum(f32::from_bits(u32::from(self.short()?) << 16))
    }

    /// Milliseconds; a year at most.
    pub fn duration(&mut self) -> Result<Duration, Garbled> {
        let duration = Duration::from_millis(self.varint()?);
        if duration <= LONGEST { Ok(duration) } else { Err(Garbled) }
    }

    /// A short text.
    pub fn text(&mut self) -> Result<Box<str>, Garbled> {
        let length = self.number::<usize>()?;
        if length > MOST_TEXT {
            return Err(Garbled);
        }
        std::str::from_utf8(self.take(length)?).map(Into::into).map_err(|_| Garbled)
    }
}

fn sum(number: f32) -> Result<f64, Garbled> {
    if number.is_finite() && number.is_sign_positive() { Ok(number.into()) } else { Err(Garbled) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(number: u64, short: u16, word: u32, text in ".{0,16}") {
            let mut writer = Writer::default();
            writer.varint(number);
            writer.short(short);
            writer.word(word);
            writer.text(&text);
            writer.duration(Duration::from_millis(u64::from(word)));
            let bytes = writer.done();
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint(), Ok(number));
            prop_assert_eq!(reader.short(), Ok(short));
            prop_assert_eq!(reader.word(), Ok(word));
            let read = reader.text().unwrap();
            prop_assert!(&*read == text.as_str());
            prop_assert_eq!(reader.duration(), Ok(Duration::from_millis(word.into())));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn a_rounded_number_travels_as_it_is(number in 0.0..1e30f64) {
            let once = rounded(number);
            prop_assert!((once - number).abs() <= number / 256.0 + 1e-37);
            let mut writer = Writer::default();
            writer.half(once);
            let bytes = writer.done();
            prop_assert_eq!(Reader::new(&bytes).half(), Ok(once));
        }
    }

    #[test]
    fn nonsense_is_no_sum() {
        for number in [f32::NAN, f32::INFINITY, -1.0, -0.0] {
            let mut writer = Writer::default();
            writer.word(number.to_bits());
            assert_eq!(Reader::new(&writer.done()).single(), Err(Garbled), "{number}");
        }
        let greatest = rounded(f64::from(f32::MAX));
        assert!(greatest.is_finite() && greatest > 3e38);
        let eleven = [0x80; 11];
        assert_eq!(Reader::new(&eleven).varint(), Err(Garbled));
    }
}
