//! The guest's allocator: a static arena first, the system's when it is full.
//! Owns 48 KiB of the instance's initial memory, so that small work never calls `memory.grow`, which costs more than
//! most stages.
//! Never hands arena memory to libc, whose `free` would take it for its own.
#![expect(unsafe_code, reason = "an allocator deals in raw memory")]
#![cfg_attr(not(any(test, target_arch = "wasm32")), expect(dead_code, reason = "natively only tests use it"))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};

/// Hands out memory upwards; takes back the topmost block at once, and everything when the last block is freed.
/// That is enough: an instance most often serves one call.
#[derive(Debug)]
struct Arena<const N: usize> {
    memory: UnsafeCell<Block<N>>,
    used: Cell<usize>,
    live: Cell<usize>,
}

#[derive(Debug)]
#[repr(C, align(16))]
struct Block<const N: usize>([u8; N]);

impl<const N: usize> Arena<N> {
    const fn new() -> Self {
        Self { memory: UnsafeCell::new(Block([0; N])), used: Cell::new(0), live: Cell::new(0) }
    }

    fn base(&self) -> *mut u8 {
        self.memory.get().cast()
    }

    /// Where in the arena a block begins; none if it is the system's.
    fn offset(&self, block: *mut u8) -> Option<usize> {
        (block as usize).checked_sub(self.base() as usize).filter(|offset| *offset < N)
    }

    /// The next free block of that layout; none if the arena is too full.
    fn bump(&self, layout: Layout) -> Option<*mut u8> {
        let base = self.base() as usize;
        let start = (base + self.used.get()).next_multiple_of(layout.align()) - base;
        let end = start.checked_add(layout.size()).filter(|end| *end <= N)?;
        self.used.set(end);
        self.live.set(self.live.get() + 1);
        Some(self.base().wrapping_add(start))
    }

    /// Gives `offset..` back if the block that ends at `end` is the topmost, and everything if it was the last.
    fn give_back(&self, offset: usize, end: usize) {
        self.live.set(self.live.get() - 1);
        if self.live.get() == 0 {
            self.used.set(0);
        } else if end == self.used.get() {
            self.used.set(offset);
        }
    }

    /// Whether the block could be resized where it is.
    fn resize(&self, offset: usize, old: usize, new: usize) -> bool {
        let topmost = offset + old == self.used.get();
        let fits = topmost && offset.checked_add(new).is_some_and(|end| end <= N);
        if fits {
            self.used.set(offset + new);
        }
        fits || new <= old
    }
}

// SAFETY: blocks never overlap, since `used` only falls to a place below which every block is still accounted for: to
// the start of the topmost block, or to 0 when no block is live. A block is aligned, and within `memory`, which lives
// as long as the arena. Where a block came from is told by its address, so each goes back to where it is from.
unsafe impl<const N: usize> GlobalAlloc for Arena<N> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`, which is the system's too.
        self.bump(layout).unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.offset(block) {
            Some(offset) => self.give_back(offset, offset + layout.size()),
            // SAFETY: not in the arena, so the system gave it.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(offset) = self.offset(block) else {
            // SAFETY: not in the arena, so the system gave it.
            return unsafe { System.realloc(block, layout, size) };
        };
        if self.resize(offset, layout.size(), size) {
            return block;
        }
        // SAFETY: the caller promises a size that is valid for this alignment; the new block is larger than the old
        // one (a smaller one was resized in place), apart from it, and the old one is freed with its own layout.
        unsafe {
            let larger = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !larger.is_null() {
                larger.copy_from_nonoverlapping(block, layout.size());
                self.dealloc(block, layout);
            }
            larger
        }
    }
}

pub(crate) use instance::enter;

/// The arena of an instance, and what the host puts into it.
#[cfg(all(target_arch = "wasm32", not(target_feature = "atomics")))]
mod instance {
    use super::{Arena, Cell, GlobalAlloc, Layout, System};

    struct Instance {
        arena: Arena<{ 48 * 1024 }>,
        /// Whether constructors or a call run: what the host allocates then may be for libc to free. Otherwise it is
        /// a call's arguments, which Rust frees.
        running: Cell<bool>,
    }

    // SAFETY: without atomics the target has one thread.
    unsafe impl Sync for Instance {}

    // All zeros, so that it takes no room in the component.
    #[global_allocator]
    static INSTANCE: Instance = Instance { arena: Arena::new(), running: Cell::new(false) };

    // SAFETY: the arena keeps the contract.
    unsafe impl GlobalAlloc for Instance {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: as promised by the caller.
            unsafe { self.arena.alloc(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // SAFETY: as promised by the caller.
            unsafe { self.arena.dealloc(block, layout) }
        }

        unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            // SAFETY: as promised by the caller.
            unsafe { self.arena.realloc(block, layout, size) }
        }
    }

    /// Marks a call as running until it is dropped.
    pub(crate) struct Call;

    /// To be held by each exported function.
    pub(crate) fn enter() -> Call {
        INSTANCE.running.set(true);
        Call
    }

    impl Drop for Call {
        fn drop(&mut self) {
            INSTANCE.running.set(false);
        }
    }

    extern "C" fn constructing() {
        INSTANCE.running.set(true);
    }

    /// Runs before libc's constructors. The bindings call them all at the start of the first call; were they called
    /// before its arguments are there, these would only be the system's.
    #[used]
    #[unsafe(link_section = ".init_array.0")]
    static CONSTRUCTING: extern "C" fn() = constructing;

    /// Where the host asks for memory. It takes the place of libc's function of that name, which is weak, and which
    /// knows nothing of the arena.
    ///
    /// # Safety
    /// As the canonical ABI says: `old` is null, or a block that this function returned, of `old_size` and `align`.
    #[cfg(target_env = "p2")]
    #[unsafe(no_mangle)]
    unsafe extern "C" fn cabi_realloc(old: *mut u8, old_size: usize, align: usize, new_size: usize) -> *mut u8 {
        if new_size == 0 {
            return align as *mut u8;
        }
        // SAFETY: the host passes a valid layout; an old block is told from its address, as in `dealloc`.
        let block = unsafe {
            let layout = |size| Layout::from_size_align_unchecked(size, align);
            match (old_size, INSTANCE.running.get()) {
                (0, false) => INSTANCE.arena.alloc(layout(new_size)),
                (0, true) => System.alloc(layout(new_size)),
                (old_size, _) => INSTANCE.arena.realloc(old, layout(old_size), new_size),
            }
        };
        if block.is_null() {
            core::arch::wasm32::unreachable();
        }
        block
    }
}

#[cfg(not(all(target_arch = "wasm32", not(target_feature = "atomics"))))]
mod instance {
    /// Natively the allocator is the system's, and nothing needs to be marked.
    pub(crate) struct Call;

    pub(crate) fn enter() -> Call {
        Call
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn layout(size: usize, align: usize) -> Layout {
        match Layout::from_size_align(size, align) {
            Ok(layout) => layout,
            Err(_) => panic!("layout"),
        }
    }

    #[test]
    fn blocks_are_aligned_and_apart() {
        let arena = Arena::<256>::new();
        // SAFETY: the layouts are not empty, and each block is freed with its own.
        unsafe {
            let first = arena.alloc(layout(3, 1));
            let second = arena.alloc(layout(16, 16));
            assert_eq!(second as usize % 16, 0);
            assert!(second as usize >= first as usize + 3);
            arena.dealloc(first, layout(3, 1));
            arena.dealloc(second, layout(16, 16));
        }
        assert_eq!((arena.used.get(), arena.live.get()), (0, 0));
    }

    #[test]
    fn the_topmost_block_is_taken_back_at_once() {
        let arena = Arena::<64>::new();
        // SAFETY: as above.
        unsafe {
            arena.alloc(layout(8, 8));
            let top = arena.alloc(layout(8, 8));
            arena.dealloc(top, layout(8, 8));
            assert_eq!(arena.alloc(layout(24, 8)), top);
        }
    }

    #[test]
    fn a_full_arena_falls_through_and_each_block_goes_home() {
        let arena = Arena::<32>::new();
        // SAFETY: as above.
        unsafe {
            let inside = arena.alloc(layout(32, 1));
            let outside = arena.alloc(layout(1, 1));
            assert_eq!((arena.offset(inside), arena.offset(outside)), (Some(0), None));
            let outside = arena.realloc(outside, layout(1, 1), 100);
            arena.dealloc(outside, layout(100, 1));
            arena.dealloc(inside, layout(32, 1));
        }
        assert_eq!(arena.used.get(), 0);
    }

    #[test]
    fn a_size_that_overflows_is_not_in_the_arena() {
        let arena = Arena::<32>::new();
        assert_eq!(arena.bump(layout(isize::MAX as usize, 1)), None);
        assert_eq!(arena.used.get(), 0);
    }

    #[test]
    fn growing_happens_in_place_on_top_and_by_copy_elsewhere() {
        let arena = Arena::<64>::new();
        // SAFETY: as above; eight bytes are written to a block of eight and read from its copy.
        unsafe {
            let low = arena.alloc(layout(8, 1));
            low.write_bytes(7, 8);
            assert_eq!(arena.realloc(low, layout(8, 1), 16), low);
            let top = arena.alloc(layout(8, 1));
            let moved = arena.realloc(low, layout(16, 1), 100);
            assert_eq!(arena.offset(moved), None);
            assert_eq!(std::slice::from_raw_parts(moved, 8), [7; 8]);
            assert_eq!(arena.realloc(top, layout(8, 1), 4), top);
            arena.dealloc(moved, layout(100, 1));
        }
    }

    #[test]
    fn a_block_that_shrank_below_the_top_is_still_freed_in_full() {
        let arena = Arena::<64>::new();
        // SAFETY: as above.
        unsafe {
            let low = arena.alloc(layout(16, 1));
            let top = arena.alloc(layout(16, 1));
            assert_eq!(arena.realloc(low, layout(16, 1), 8), low);
            arena.dealloc(low, layout(8, 1));
            assert_eq!(arena.used.get(), 32, "the topmost block still counts");
            arena.dealloc(top, layout(16, 1));
        }
        assert_eq!(arena.used.get(), 0);
    }
}
