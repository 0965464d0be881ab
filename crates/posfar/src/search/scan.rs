//! The screening of the candidates, and the measuring of the rest.

use super::candidates::Candidates;
use super::kernel::{BLOCKS, LANES, QUERIES, Screen, Terms, Work};
use super::queries::{Tile, Tiles};
use super::rounding::STAGES;
use super::{GROUP, Index, Neighbor};

/// Sums below these exclude a candidate.
struct Bounds {
    /// Up to the end of each stage.
    least: [[i32; QUERIES]; STAGES],
    /// Squared reach of each query in screening units.
    reach: [f64; QUERIES],
}

pub struct Search<'a, A> {
    pub index: &'a Index,
    pub candidates: &'a Candidates,
    pub tiles: &'a Tiles,
    pub k: usize,
    pub allowed: &'a A,
}

pub struct SearchTiles<'a, 'b, A> {
    pub search: &'a Search<'a, A>,
    pub first: usize,
    pub best: &'b mut [Neighbor],
}

impl<A: Fn(usize, usize) -> bool + Sync> Work for SearchTiles<'_, '_, A> {
    #[inline(always)]
    unsafe fn run<S: Screen, const Q: usize>(self) {
        // SAFETY: as the caller promised.
        unsafe { self.search.run::<S, Q>(self.first, self.best) }
    }
}

impl<A: Fn(usize, usize) -> bool + Sync> Search<'_, A> {
    /// Searches for some tiles' queries, `Q` of them side by side.
    ///
    /// # Safety
    /// The processor must have the instructions.
    #[inline(always)]
    unsafe fn run<S: Screen, const Q: usize>(&self, first: usize, best: &mut [Neighbor]) {
        let groups = self.candidates.groups.len();
        if groups == 0 {
            return;
        }
        // The query whose neighbors give the next one's first bound.
        let mut last: Option<usize> = None;
        for number in first..first + best.len().div_ceil(QUERIES * self.k) {
            let tile = &self.tiles.tiles[number];
            let from = (number - first) * QUERIES;
            let members = (best.len() / self.k - from).min(QUERIES);
            let mut bounds = Bounds { least: [[i32::MAX; QUERIES]; STAGES], reach: [0.0; QUERIES] };
            let near = tile.near..tile.near + self.k as u32;
            for q in 0..members {
                bounds.least.iter_mut().for_each(|least| least[q] = i32::MIN);
                bounds.reach[q] = f64::INFINITY;
                let place = number * QUERIES + q;
                // SAFETY: as the caller promised.
                let mut reach = unsafe { self.farthest::<S>(place, near.clone()) };
                if let Some(last) = last {
                    let found = best[last * self.k..][..self.k].iter().map(|n| n.index);
                    // SAFETY: as the caller promised.
                    reach = reach.min(unsafe { self.farthest::<S>(place, found) });
                }
                self.tighten(tile, q, reach, &mut bounds);
            }
            let best = &mut best[from * self.k..];
            // The nearest candidates first: their bounds save most of the others.
            let own = (tile.near as usize / GROUP).min(groups - 1);
            // SAFETY: as the caller promised.
            unsafe {
                for group in std::iter::once(own).chain((0..groups).filter(|g| *g != own)) {
                    self.group::<S, Q>(number, group, &mut bounds, best);
                }
            }
            last = Some(from + members - 1);
        }
    }

    /// The largest distance of a query to candidates; infinite, if it must not match one of them.
    ///
    /// # Safety
    /// The processor must have the instructions.
    #[inline(always)]
    unsafe fn farthest<S: Screen>(&self, place: usize, candidates: impl Iterator<Item = u32>) -> f32 {
        let mut farthest = 0.0f32;
        for candidate in candidates {
            // SAFETY: as the caller promised.
            farthest = farthest.max(unsafe { self.distance::<S>(place, candidate) });
        }
        farthest
    }

    /// Squared distance of a query to a candidate, with one order of additions for all instruction sets. Infinite, if they
    /// must not match.
    ///
    /// # Safety
    /// The processor must have the instructions.
    #[inline(always)]
    unsafe fn distance<S: Screen>(&self, place: usize, candidate: u32) -> f32 {
        let Some(&row) = self.candidates.rows.get(candidate as usize) else { return f32::INFINITY };
        // A group's last places can be empty.
        if row == u32::MAX || !(self.allowed)(self.tiles.order[place] as usize, row as usize) {
            return f32::INFINITY;
        }
        let dims = self.index.dims;
        let query = &self.tiles.values[place * dims..][..dims];
        let row = &self.candidates.values[candidate as usize * dims..][..dims];
        let unit = self.index.unit;
        let (queries, query_rest) = query.as_chunks();
        let (rows, row_rest) = row.as_chunks();
        // SAFETY: as the caller promised.
        let mut sums = unsafe { S::squares(queries, rows, unit) };
        for ((sum, query), row) in sums.iter_mut().zip(query_rest).zip(row_rest) {
            let difference = query - f32::from(*row) * unit;
            *sum += difference * difference;
        }
        let [a, b, c, d, e, f, g, h] = sums;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    /// Sets a query's bounds for a best distance.
    #[inline(always)]
    fn tighten(&self, tile: &Tile, q: usize, distance: f32, bounds: &mut Bounds) {
        let query = &tile.queries[q];
        // The error of an `f32` sum of n terms is below n units in the last place.
        let rounding = 1.0 + (self.index.dims + 8) as f64 * f64::from(f32::EPSILON);
        let reach =
            f64::from(distance).sqrt() * rounding * self.index.scale() + query.error + self.index.error;
        let reach = reach * reach * (1.0 + 1e-9);
        if reach >= bounds.reach[q] {
            return;
        }
        let factor = f64::from(1u32 << tile.shift);
        // From |f q − b|² = f² |q|² + |b|² − 2 f q·b ≤ reach² for q·b − |b|² / 2f. The halved and
        // shifted term of each stage was rounded down by less than two.
        bounds.reach[q] = reach;
        for stage in 0..self.candidates.stages.count {
            let sum = (factor * factor * f64::from(query.squares[stage]) - reach) / (2.0 * factor);
            let rounded = 2.0 * (stage + 1) as f64;
            bounds.least[stage][q] = (sum.floor() - rounded + f64::from(query.offsets[stage])) as i32;
        }
    }

    /// Searches one group of candidates for one tile's queries.
    ///
    /// # Safety
    /// The processor must have the instructions.
    #[inline(always)]
    unsafe fn group<S: Screen, const Q: usize>(
        &self,
        number: usize,
        group: usize,
        bounds: &mut Bounds,
        best: &mut [Neighbor],
    ) {
        let (candidates, tile) = (self.candidates, &self.tiles.tiles[number]);
        let (depth, stages) = (candidates.depth, candidates.stages);
        let words = &self.tiles.words[number * depth..][..depth];
        let blocks = &candidates.groups[group];
        // Casts saturate.
        let limit = bounds.reach.iter().fold(0.0, |m: f64, r| m.max(*r)).ceil() as u32;
        let mut alive = blocks.boxes.within(&tile.low, &tile.high, limit);
        while alive != 0 {
            let block = alive.trailing_zeros() as usize;
            alive &= alive - 1;
            let terms = &blocks.terms[block];
            let block = group * BLOCKS + block;
            let lines = &candidates.lines[block * depth..][..depth];
            'side: for side in (0..QUERIES).step_by(Q) {
                // SAFETY: as the caller promised.
                unsafe {
                    let mut sums = [S::terms(&terms[0], tile.shift); Q];
                    let mut start = 0;
                    for (stage, &end) in stages.ends().iter().enumerate() {
                        if stage > 0 {
                            let terms = S::terms(&terms[stage], tile.shift);
                            for sum in &mut sums {
                                *sum = S::add(*sum, terms);
                            }
                        }
                        for (line, words) in lines[start..end].iter().zip(&words[start..end]) {
                            for (q, sum) in sums.iter_mut().enumerate() {
                                *sum = S::dot(*sum, line, i32::from_le_bytes(words[side + q]));
                            }
                        }
                        let mut any = 0;
                        for (q, sum) in sums.iter().enumerate() {
                            any |= S::at_least(*sum, bounds.least[stage][side + q]);
                        }
                        if any == 0 {
                            continue 'side;
                        }
                        start = end;
                    }
                    let least = stages.count - 1;
                    let (mut masks, mut stored) = ([0; Q], [Terms([0; LANES]); Q]);
                    for (q, sum) in sums.iter().enumerate() {
                        masks[q] = S::at_least(*sum, bounds.least[least][side + q]);
                        stored[q] = S::store(*sum);
                    }
                    for (q, sums) in stored.iter().enumerate() {
                        let mut mask = masks[q];
                        while let Some(lane) = nearest_lane(sums, mask) {
                            mask &= !(1 << lane);
                            if sums.0[lane] >= bounds.least[least][side + q] {
                                self.measure::<S>(number, side + q, block * LANES + lane, bounds, best);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Measures a candidate that passed the screening.
    ///
    /// # Safety
    /// The processor must have the instructions.
    #[inline(always)]
    unsafe fn measure<S: Screen>(
        &self,
        number: usize,
        q: usize,
        candidate: usize,
        bounds: &mut Bounds,
        best: &mut [Neighbor],
    ) {
        let place = number * QUERIES + q;
        // A tile's last places can be empty.
        if place >= self.tiles.order.len() {
            return;
        }
        // SAFETY: as the caller promised.
        let distance = unsafe { self.distance::<S>(place, candidate as u32) };
        let neighbor = Neighbor { index: candidate as u32, distance };
        let is_before = |a: &Neighbor, b: &Neighbor| {
            let row = |n: &Neighbor| self.candidates.rows.get(n.index as usize).copied().unwrap_or(u32::MAX);
            a.distance < b.distance || a.distance == b.distance && row(a) < row(b)
        };
        let best = &mut best[q * self.k..][..self.k];
        let mut rank = self.k - 1;
        if !(neighbor.distance.is_finite() && is_before(&neighbor, &best[rank])) {
            return;
        }
        while rank > 0 && is_before(&neighbor, &best[rank - 1]) {
            best[rank] = best[rank - 1];
            rank -= 1;
        }
        best[rank] = neighbor;
        self.tighten(&self.tiles.tiles[number], q, best[self.k - 1].distance, bounds);
    }
}

/// The lane with the largest of the masked sums.
#[inline(always)]
fn nearest_lane(sums: &Terms, mut mask: u16) -> Option<usize> {
    let mut best = None;
    while mask != 0 {
        let lane = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        if best.is_none_or(|best: usize| sums.0[lane] > sums.0[best]) {
            best = Some(lane);
        }
    }
    best
}
