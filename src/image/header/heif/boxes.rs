//! The boxes of the ISO base media file format (ISO/IEC 14496-12, 4.2), and the integers in them.

/// Walks over boxes that lie one after the other. The last one may be cut short.
#[derive(Debug, Clone)]
pub struct Boxes<'a>(pub &'a [u8]);

/// A box's type.
pub type Kind = [u8; 4];

impl<'a> Iterator for Boxes<'a> {
    /// A box's type and its contents.
    type Item = (Kind, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let mut fields = Fields(self.0);
        let short = fields.uint(4)?;
        let kind = fields.kind()?;
        let length = match short {
            0 => self.0.len() as u64,
            1 => fields.uint(8)?,
            length => length,
        };
        let header = self.0.len() - fields.0.len();
        let end = usize::try_from(length).unwrap_or(usize::MAX).min(self.0.len());
        let body = self.0.get(header..end)?;
        self.0 = &self.0[end..];
        Some((kind, body))
    }
}

impl<'a> Boxes<'a> {
    /// The contents of the first box of this type.
    pub fn first(&self, wanted: Kind) -> Option<&'a [u8]> {
        self.clone().find_map(|(kind, body)| (kind == wanted).then_some(body))
    }
}

/// Reads big-endian integers, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The version and the flags of a full box, and the fields that follow them.
    pub fn full(body: &'a [u8]) -> Option<(u8, u32, Self)> {
        let mut fields = Self(body);
        let word = fields.uint(4)? as u32;
        Some(((word >> 24) as u8, word & 0x00ff_ffff, fields))
    }

    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    /// Reads an integer of up to 8 bytes. An integer of no bytes is 0.
    pub fn uint(&mut self, bytes: usize) -> Option<u64> {
        Some(self.bytes(bytes)?.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    pub fn kind(&mut self) -> Option<Kind> {
        self.bytes(4)?.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_end_where_they_say() {
        let file = b"\0\0\0\x0aaaaaXY\0\0\0\x01bbbb\0\0\0\0\0\0\0\x11Z\0\0\0\0ccccrest";
        let boxes: Vec<_> = Boxes(file).collect();
        assert_eq!(boxes, [(*b"aaaa", &b"XY"[..]), (*b"bbbb", b"Z"), (*b"cccc", b"rest")]);
    }

    #[test]
    fn damaged_boxes_end_the_walk() {
        assert_eq!(Boxes(b"\0\0\0\x07aaaa").next(), None);
        assert_eq!(Boxes(b"\0\0\0\x01aaaa\0\0\0\0").next(), None);
        assert_eq!(Boxes(b"\0\0\0\x01aaaa\xff\xff\xff\xff\xff\xff\xff\xffX").next(), Some((*b"aaaa", &b"X"[..])));
    }
}
