//! Pillow's antialiased bilinear resize, row by row.
