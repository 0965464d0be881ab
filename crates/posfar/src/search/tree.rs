//! An order of the rows that puts near ones side by side.

/// Rows per leaf, about, and the most levels: more cost more time than they save.
const LEAF: usize = 8;
const MOST_LEVELS: u32 = 10;
/// Most rows that decide the borders.
const SAMPLE: usize = 1 << 16;

/// A complete k-d tree (Bentley 1975): a row's leaf is found without other rows.
#[derive(Debug)]
pub struct Tree {
    levels: u32,
    /// Column and border of each inner node, in heap order: larger values go to the second child.
    nodes: Vec<(u16, i16)>,
}

impl Tree {
    /// Halves the rows along the column with the largest spread, and so on.
    pub fn new(rows: &[i16], dims: usize) -> Self {
        let count = rows.len() / dims.max(1);
        let step = count.div_ceil(SAMPLE).max(1);
        let mut sample: Vec<usize> = (0..count).step_by(step).collect();
        let levels = levels(count).min(MOST_LEVELS);
        let mut tree = Tree { levels, nodes: vec![(0, i16::MAX); (1 << levels) - 1] };
        tree.split(0, rows, dims, &mut sample);
        tree
    }

    fn split(&mut self, node: usize, rows: &[i16], dims: usize, members: &mut [usize]) {
        if node >= self.nodes.len() || members.len() < 2 {
            return;
        }
        let spread = |col: usize| {
            let (mut sum, mut squares) = (0.0, 0.0);
            for &row in members.iter() {
                let value = f64::from(rows[row * dims + col]);
                sum += value;
                squares += value * value;
            }
            squares - sum * sum / members.len() as f64
        };
        let spreads = (0..dims).map(|col| (col, spread(col)));
        let (col, _) = spreads.fold((0, f64::NEG_INFINITY), |best, s| if s.1 > best.1 { s } else { best });
        let half = members.len() / 2;
        members.select_nth_unstable_by_key(half - 1, |&row| rows[row * dims + col]);
        self.nodes[node] = (col as u16, rows[members[half - 1] * dims + col]);
        let (low, high) = members.split_at_mut(half);
        self.split(2 * node + 1, rows, dims, low);
        self.split(2 * node + 2, rows, dims, high);
    }

    /// Levels that pay for this number of rows.
    pub fn levels(&self, count: usize) -> u32 {
        levels(count).min(self.levels)
    }

    /// A row's node on a level, counted from the level's first. Close numbers are close in space.
    #[inline(always)]
    pub fn leaf(&self, levels: u32, row: &[i16]) -> usize {
        let mut node = 0;
        for _ in 0..levels {
            let (col, border) = self.nodes[node];
            node = 2 * node + 1 + usize::from(row[usize::from(col)] > border);
        }
        node + 1 - (1 << levels)
    }
}

fn levels(count: usize) -> u32 {
    (count / LEAF).max(1).ilog2()
}

/// Members of each leaf, one leaf after the other.
#[derive(Debug, Default)]
pub struct Sorted {
    pub leaves: Vec<u16>,
    /// First place of each leaf, and the number of places.
    pub starts: Vec<u32>,
    next: Vec<u32>,
}

impl Sorted {
    /// Counting sort: `put(place, member)` for each member.
    pub fn sort(&mut self, leaves: usize, mut put: impl FnMut(u32, usize)) {
        self.starts.clear();
        self.starts.resize(leaves + 1, 0);
        for &leaf in &self.leaves {
            self.starts[usize::from(leaf) + 1] += 1;
        }
        for leaf in 0..leaves {
            self.starts[leaf + 1] += self.starts[leaf];
        }
        self.next.clear();
        self.next.extend_from_slice(&self.starts);
        for (member, &leaf) in self.leaves.iter().enumerate() {
            let place = &mut self.next[usize::from(leaf)];
            put(*place, member);
            *place += 1;
        }
    }
}
