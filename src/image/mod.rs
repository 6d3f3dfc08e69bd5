//! Photographs: what they are (`header`), their pixels (`decode`), and Pillow's resize (`resample`).

pub mod decode;
pub mod header;
pub mod resample;

use crate::geometry::{Region, Size};

/// 8-bit RGB pixels, interleaved, row-major, no padding: `data.len() == width × height × 3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgb8 {
    pub size: Size,
    pub data: Vec<u8>,
}

/// 8-bit RGB pixels by plane, `[3, height, width]`, which is how networks read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planar8 {
    pub size: Size,
    pub data: Vec<u8>,
}

impl From<Rgb8> for Planar8 {
    fn from(image: Rgb8) -> Self {
        let mut data = Vec::with_capacity(image.data.len());
        for channel in 0..3 {
            data.extend(image.data.iter().skip(channel).step_by(3));
        }
        Self { size: image.size, data }
    }
}

impl Planar8 {
    /// Cuts a part out of `image`. The region must lie on the image.
    #[must_use]
    pub(crate) fn cut_out(image: &Rgb8, region: Region) -> Self {
        let (stride, width) = (image.size.width as usize * 3, region.size.width as usize * 3);
        let rows = image.data.chunks_exact(stride).skip(region.top as usize).take(region.size.height as usize);
        let mut data = Vec::with_capacity(region.size.area() as usize * 3);
        for channel in 0..3 {
            for row in rows.clone() {
                data.extend(row[region.left as usize * 3..][..width].iter().skip(channel).step_by(3));
            }
        }
        Self { size: region.size, data }
    }

    /// Puts `image` at its place on a canvas whose other samples are `fill`. The region must have the image's size and
    /// lie on the canvas.
    #[must_use]
    pub(crate) fn on_canvas(image: Rgb8, region: Region, canvas: Size, fill: u8) -> Self {
        if image.size == canvas {
            return image.into();
        }
        let (width, columns) = (image.size.width as usize, canvas.width as usize);
        let mut data = vec![fill; canvas.area() as usize * 3];
        for (channel, plane) in data.chunks_exact_mut(canvas.area() as usize).enumerate() {
            let rows = plane.chunks_exact_mut(columns).skip(region.top as usize);
            for (row, pixels) in rows.zip(image.data.chunks_exact(width * 3)) {
                let samples = pixels.iter().skip(channel).step_by(3);
                row[region.left as usize..][..width].iter_mut().zip(samples).for_each(|(to, from)| *to = *from);
            }
        }
        Self { size: canvas, data }
    }

    /// Mirrors what lies in `region`, left to right. The region must lie on the image.
    pub(crate) fn mirror(&mut self, region: Region) {
        let (left, width) = (region.left as usize, region.size.width as usize);
        for plane in self.data.chunks_exact_mut(self.size.area() as usize) {
            let rows = plane.chunks_exact_mut(self.size.width as usize).skip(region.top as usize);
            rows.take(region.size.height as usize).for_each(|row| row[left..left + width].reverse());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_cut_out() {
        let image = Rgb8 { size: Size::new(3, 3), data: (0..27).collect() };
        let part = Planar8::cut_out(&image, Region { left: 1, top: 1, size: Size::new(2, 2) });
        assert_eq!(part.size, Size::new(2, 2));
        assert_eq!(part.data, [12, 15, 21, 24, 13, 16, 22, 25, 14, 17, 23, 26]);
        assert_eq!(Planar8::cut_out(&image, image.size.into()), Planar8::from(image));
    }

    #[test]
    fn an_image_lies_on_its_canvas() {
        let image = Rgb8 { size: Size::new(2, 1), data: vec![1, 2, 3, 4, 5, 6] };
        let region = Region::centred(image.size, Size::new(3, 3));
        let planes = Planar8::on_canvas(image.clone(), region, Size::new(3, 3), 9);
        assert_eq!(planes.size, Size::new(3, 3));
        #[rustfmt::skip]
        assert_eq!(planes.data, [
            9, 9, 9, 1, 4, 9, 9, 9, 9,
            9, 9, 9, 2, 5, 9, 9, 9, 9,
            9, 9, 9, 3, 6, 9, 9, 9, 9,
        ]);
        let mut mirrored = planes;
        mirrored.mirror(region);
        assert_eq!(mirrored.data[..9], [9, 9, 9, 4, 1, 9, 9, 9, 9]);
        let same = Planar8::on_canvas(image.clone(), image.size.into(), image.size, 9);
        assert_eq!(same, Planar8::from(image));
    }
}
