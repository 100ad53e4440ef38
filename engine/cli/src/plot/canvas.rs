//! A canvas of pixels whose letters need no fonts of the machine: they are in the program.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use plotters::prelude::BitMapBackend;
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
};

/// Red, green, blue.
pub const PIXEL_BYTES: usize = 3;

const HEIGHT: RasterHeight = RasterHeight::Size16;
const WEIGHT: FontWeight = FontWeight::Regular;

type Drawn<E> = Result<(), DrawingErrorKind<E>>;

/// Draws shapes as [`BitMapBackend`] does, and all text in letters of one size.
pub struct Canvas<'a>(BitMapBackend<'a>);

impl<'a> Canvas<'a> {
    /// On `pixels` of width x height x [`PIXEL_BYTES`].
    pub fn new(pixels: &'a mut [u8], size: (u32, u32)) -> Self {
        Canvas(BitMapBackend::with_buffer(pixels, size))
    }
}

/// The picture as the bytes of a PNG file.
pub fn encode(pixels: &[u8], (width, height): (u32, u32)) -> Result<Vec<u8>, png::EncodingError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(pixels)?;
    Ok(file)
}

fn text_size(text: &str) -> (i32, i32) {
    (text.chars().count() as i32 * get_raster_width(WEIGHT, HEIGHT) as i32, HEIGHT.val() as i32)
}

impl DrawingBackend for Canvas<'_> {
    type ErrorType = <BitMapBackend<'static> as DrawingBackend>::ErrorType;

    fn get_size(&self) -> (u32, u32) {
        self.0.get_size()
    }

    fn ensure_prepared(&mut self) -> Drawn<Self::ErrorType> {
        self.0.ensure_prepared()
    }

    fn present(&mut self) -> Drawn<Self::ErrorType> {
        self.0.present()
    }

    fn draw_pixel(&mut self, at: BackendCoord, color: BackendColor) -> Drawn<Self::ErrorType> {
        self.0.draw_pixel(at, color)
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
    ) -> Drawn<Self::ErrorType> {
        self.0.draw_line(from, to, style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        bottom_right: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn<Self::ErrorType> {
        self.0.draw_rect(upper_left, bottom_right, style, fill)
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        at: BackendCoord,
    ) -> Drawn<Self::ErrorType> {
        let (width, height) = text_size(text);
        let anchor = style.anchor();
        let left = match anchor.h_pos {
            HPos::Left => 0,
            HPos::Center => -width / 2,
            HPos::Right => -width,
        };
        let top = match anchor.v_pos {
            VPos::Top => 0,
            VPos::Center => -height / 2,
            VPos::Bottom => -height,
        };
        let (turn, color) = (style.transform(), style.color());
        let mut column = left;
        // The font has the letters of ASCII; others become question marks.
        let rasters = text.chars().map(|letter| get_raster(letter, WEIGHT, HEIGHT));
        for raster in rasters.map(|raster| raster.or_else(|| get_raster('?', WEIGHT, HEIGHT))) {
            let Some(raster) = raster else { continue };
            for (y, row) in raster.rows().enumerate() {
                for (x, &ink) in row.iter().enumerate().filter(|(_, ink)| **ink > 0) {
                    let (dx, dy) = turn.transform(column + x as i32, top + y as i32);
                    let alpha = color.alpha * f64::from(ink) / 255.0;
                    // Pixels outside the picture are left out by the backend.
                    self.0.draw_pixel((at.0 + dx, at.1 + dy), BackendColor { alpha, ..color })?;
                }
            }
            column += raster.width() as i32;
        }
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        _: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Self::ErrorType>> {
        let (width, height) = text_size(text);
        Ok((width as u32, height as u32))
    }
}
