//! Connected areas of a binary picture.

/// One connected area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Component {
    /// Left edge of the bounding box.
    pub x: usize,
    /// Top edge of the bounding box.
    pub y: usize,
    /// Width of the bounding box, at least 1.
    pub width: usize,
    /// Height of the bounding box, at least 1.
    pub height: usize,
    /// Pixels in the area.
    pub pixels: usize,
}

/// The 8-connected areas of a binary picture: pixels that touch at a side or a corner belong together.
///
/// The buffers are reused: a stream of pictures of one size does not allocate.
#[derive(Debug, Clone, Default)]
pub struct Components {
    labels: Vec<u32>,
    list: Vec<Component>,
    /// Union-find over provisional labels; an entry never points to a larger one.
    parents: Vec<u32>,
}

impl Components {
    /// Finds the areas of a picture of fewer than 2³² pixels. `inside` is called once per pixel, by index,
    /// rows from the top. Earlier results are replaced.
    pub fn label(&mut self, width: usize, height: usize, mut inside: impl FnMut(usize) -> bool) {
        self.labels.clear();
        self.labels.resize(width * height, 0);
        self.list.clear();
        self.parents.clear();
        self.parents.push(0);

        for y in 0..height {
            let (above, rest) = self.labels.split_at_mut(y * width);
            let above = if y > 0 { &above[(y - 1) * width..] } else { &[] };
            let row = &mut rest[..width];
            let label_above = |x: usize| above.get(x).copied().unwrap_or(0);
            for x in 0..width {
                if !inside(y * width + x) {
                    continue;
                }
                let north = label_above(x);
                let west = if x > 0 { row[x - 1] } else { 0 };
                let north_west = if x > 0 { label_above(x - 1) } else { 0 };
                let north_east = label_above(x + 1);
                // The pixel above touches the other three, which are therefore joined with it already.
                row[x] = if north > 0 {
                    north
                } else {
                    let left = if west > 0 { west } else { north_west };
                    match (left, north_east) {
                        (0, 0) => {
                            let new = self.parents.len() as u32;
                            self.parents.push(new);
                            new
                        }
                        (0, one) | (one, 0) => one,
                        (a, b) => join(&mut self.parents, a, b),
                    }
                };
            }
        }

        self.number();
        for y in 0..height {
            for (x, label) in self.labels[y * width..][..width].iter_mut().enumerate() {
                if *label == 0 {
                    continue;
                }
                *label = self.parents[*label as usize];
                let c = &mut self.list[*label as usize - 1];
                if c.pixels == 0 {
                    *c = Component { x, y, width: 1, height: 1, pixels: 1 };
                    continue;
                }
                let right = (c.x + c.width).max(x + 1);
                c.x = c.x.min(x);
                c.width = right - c.x;
                c.height = y + 1 - c.y;
                c.pixels += 1;
            }
        }
    }

    /// The areas, in the order of their first pixels.
    pub fn list(&self) -> &[Component] {
        &self.list
    }

    /// For each pixel 0 outside all areas, and otherwise 1 + the index of its area in [`Components::list`].
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Turns `parents` from a forest into the final number of each provisional label. Roots are the smallest
    /// label of their area, so one ascending pass meets them first, in the order of the areas' first pixels.
    fn number(&mut self) {
        for label in 1..self.parents.len() {
            let parent = self.parents[label] as usize;
            self.parents[label] = if parent == label {
                self.list.push(Component { x: 0, y: 0, width: 0, height: 0, pixels: 0 });
                self.list.len() as u32
            } else {
                self.parents[parent]
            };
        }
    }
}

fn join(parents: &mut [u32], a: u32, b: u32) -> u32 {
    let (a, b) = (root(parents, a), root(parents, b));
    let (low, high) = (a.min(b), a.max(b));
    parents[high as usize] = low;
    low
}

fn root(parents: &mut [u32], mut label: u32) -> u32 {
    while parents[label as usize] != label {
        let grandparent = parents[parents[label as usize] as usize];
        parents[label as usize] = grandparent;
        label = grandparent;
    }
    label
}
