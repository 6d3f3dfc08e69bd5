//! JPEG, decoded by scanlines with libjpeg (mozjpeg), using the `islow` inverse DCT and fancy upsampling as Pillow's
//! libjpeg-turbo does.

use std::cell::Cell;
use std::ffi::c_int;
use std::io::{self, BufRead, Read};
use std::panic::resume_unwind;
use std::ptr;
use std::rc::Rc;

use mozjpeg::decompress::DecompressStarted;
use mozjpeg::{ColorSpace, Decompress};
use mozjpeg_sys::{JWRN_HIT_MARKER, jpeg_common_struct, jpeg_error_mgr};

use super::color::{Kind, ToRgb};
use super::row::{RGB, Row, RowSink, undecodable};
use crate::error::{Error, Result};
use crate::image::header::{Header, jpeg};
use crate::sys;

/// Working bytes a column and fixed working bytes. A column's are libjpeg's row buffers (`jdmainct.c`, `jdsample.c`:
/// ten row groups with context, at most 10 blocks an MCU, and the upsampled rows) and our two rows; the fixed ones are
/// tables.
pub(crate) const WORKING_BYTES: (u64, u64) = (128, 256 << 10);

pub fn rows(bytes: &[u8], header: &Header, sink: RowSink<'_>) -> Result<()> {
    let mut decoder = Scanlines::new([bytes, &[], &[], &[]])?;
    if (decoder.width, decoder.height) != (header.stored.width as usize, header.stored.height as usize) {
        return Err(undecodable("its headers contradict each other"));
    }
    let mut colors = ToRgb::new(bytes, header, decoder.kind);
    let mut row = vec![0; decoder.row_bytes()];
    for _ in 0..header.stored.height {
        decoder.read(&mut row)?;
        if decoder.kind == Kind::Cmyk {
            // Pillow assumes Adobe's convention, in which 255 means no ink, for every four-component JPEG.
            for ink in &mut row {
                *ink = !*ink;
            }
        }
        sink(Row { rgb: colors.row(&row)?, alpha: None })?;
    }
    // A file that is decoded in one pass has given every row by now. Any other file may have lost whole scans together
    // with its end marker.
    if decoder.ended.get() && header.held_bytes > 0 && !jpeg::scans_are_complete(bytes) {
        return Err(cut_short());
    }
    Ok(())
}

/// A JPEG stream that is read row by row.
pub(super) struct Scanlines<'a> {
    decoder: DecompressStarted<Parts<'a>>,
    pub kind: Kind,
    pub width: usize,
    pub height: usize,
    /// Whether the stream ran out, so that an end marker was put behind it.
    ended: Rc<Cell<bool>>,
    /// Whether libjpeg ever met a marker where it wanted pixels' data.
    starved: bool,
}

impl<'a> Scanlines<'a> {
    /// Begins to read a stream whose bytes lie in several parts.
    pub fn new(parts: [&'a [u8]; 4]) -> Result<Self> {
        STARVED.set(false);
        let ended = Rc::new(Cell::new(false));
        let source = Parts { pieces: parts, at: 0, ended: Rc::clone(&ended) };
        let decoder = Decompress::builder().with_err(error_manager()).from_reader(source).map_err(undecodable_io)?;
        let kind = match decoder.components().len() {
            1 => Kind::Grey,
            4 => Kind::Cmyk,
            _ => Kind::Rgb,
        };
        let color = match kind {
            Kind::Grey => ColorSpace::JCS_GRAYSCALE,
            Kind::Cmyk => ColorSpace::JCS_CMYK,
            Kind::Rgb => ColorSpace::JCS_RGB,
        };
        let decoder = decoder.to_colorspace(color).map_err(undecodable_io)?;
        Ok(Self { kind, width: decoder.width(), height: decoder.height(), decoder, ended, starved: STARVED.get() })
    }

    pub fn row_bytes(&self) -> usize {
        let samples = match self.kind {
            Kind::Grey => 1,
            Kind::Rgb => RGB,
            Kind::Cmyk => 4,
        };
        self.width * samples
    }

    /// # Errors
    /// `Undecodable` if the data is damaged, or was guessed by libjpeg because the stream ends before it.
    pub fn read(&mut self, row: &mut [u8]) -> Result<()> {
        STARVED.set(self.starved);
        self.decoder.read_scanlines_into(row).map_err(undecodable_io)?;
        self.starved = STARVED.get();
        if self.starved && self.ended.get() { Err(cut_short()) } else { Ok(()) }
    }
}

fn undecodable_io(_: io::Error) -> Error {
    cut_short()
}

fn cut_short() -> Error {
    undecodable("its data is damaged or cut short")
}

/// libjpeg's source. If it has no end marker, one is put behind it, as libjpeg itself and every viewer does. libjpeg
/// then fills the missing pixels with grey, and [`Scanlines::read`] refuses such rows.
struct Parts<'a> {
    pieces: [&'a [u8]; 4],
    at: usize,
    ended: Rc<Cell<bool>>,
}

impl Read for Parts<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(out)?;
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Parts<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while let Some(part) = self.pieces.get(self.at) {
            if !part.is_empty() {
                return Ok(part);
            }
            self.at += 1;
        }
        self.ended.set(true);
        Ok(&[0xff, 0xd9])
    }

    fn consume(&mut self, bytes: usize) {
        if let Some(part) = self.pieces.get_mut(self.at) {
            *part = &part[bytes..];
        }
    }
}

thread_local! {
    /// Set by libjpeg's warning that it met a marker where it wanted pixels' data. It is a static because libjpeg's
    /// callbacks are passed no data of ours.
    static STARVED: Cell<bool> = const { Cell::new(false) };
}

/// Makes the error manager. Fatal errors unwind and are caught by `guard`, one warning is noted, and everything else is
/// ignored.
fn error_manager() -> jpeg_error_mgr {
    extern "C-unwind" fn exit(_: &mut jpeg_common_struct) {
        resume_unwind(Box::new("libjpeg's fatal error"));
    }
    extern "C-unwind" fn emit(info: &mut jpeg_common_struct, level: c_int) {
        // Warnings have the level -1; traces have levels from 0 up.
        if level < 0 && sys::libjpeg_message(info) == JWRN_HIT_MARKER as c_int {
            STARVED.set(true);
        }
    }
    extern "C-unwind" fn nothing(_: &mut jpeg_common_struct) {}
    jpeg_error_mgr {
        error_exit: Some(exit),
        emit_message: Some(emit),
        output_message: Some(nothing),
        format_message: None,
        reset_error_mgr: Some(nothing),
        msg_code: 0,
        msg_parm: mozjpeg_sys::msg_parm_union::default(),
        trace_level: 0,
        num_warnings: 0,
        jpeg_message_table: ptr::null(),
        last_jpeg_message: 0,
        addon_message_table: ptr::null(),
        first_addon_message: 0,
        last_addon_message: 0,
    }
}
