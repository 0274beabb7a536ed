/**
 * The memory planner: tensors with lifetimes into few arena buffers.
 *
 * Greedy by size (Pisarchyk & Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020), extended by WebGPU's
 * rule that one dispatch may not bind a buffer both read-only and read-write, not even for disjoint ranges: a kernel's
 * inputs and outputs must lie in different buffers. That makes the choice of buffer a graph colouring, done in the same pass.
 */

/** A tensor that lives from step `first` (its writer) to step `last` (its last reader), both included. */
export interface Lifetime {
  readonly bytes: number;
  readonly first: number;
  readonly last: number;
}

export interface MemoryRequest {
  readonly tensors: readonly Lifetime[];
  /** Pairs of indices into `tensors` that must not share a buffer. */
  readonly apart: readonly (readonly [number, number])[];
  /** Offsets are multiples of this. */
  readonly alignment: number;
  /** No buffer grows beyond this. */
  readonly maxBufferBytes: number;
}

export interface Placement {
  readonly buffer: number;
  readonly offset: number;
}

export interface MemoryPlan {
  /** By tensor. */
  readonly placements: readonly Placement[];
  /** Bytes of each buffer. */
  readonly buffers: readonly number[];
}

interface Placed extends Lifetime {
  readonly offset: number;
}

/** Places every tensor. Throws RangeError where one tensor alone exceeds `maxBufferBytes`. Deterministic. */
export function planMemory(request: MemoryRequest): MemoryPlan {
  const { tensors, maxBufferBytes } = request;
  const neighbours = tensors.map(() => new Set<number>());
  for (const [a, b] of request.apart) {
    if (a === b) throw new Error(`tensor ${a} is asked to lie apart from itself`);
    neighbours[a]!.add(b);
    neighbours[b]!.add(a);
  }
  const placements: (Placement | undefined)[] = tensors.map(() => undefined);
  const contents: Placed[][] = [];
  const sizes: number[] = [];
  const order = tensors.map((_, i) => i).sort((a, b) => tensors[b]!.bytes - tensors[a]!.bytes || a - b);
  for (const i of order) {
    const tensor = tensors[i]!;
    if (tensor.bytes > maxBufferBytes) throw new RangeError(`a tensor of ${tensor.bytes} bytes exceeds the largest buffer of ${maxBufferBytes} bytes`);
    const taken = new Set([...neighbours[i]!].map((other) => placements[other]?.buffer));
    let best: (Placement & { readonly growth: number }) | undefined;
    for (const [buffer, placed] of contents.entries()) {
      if (taken.has(buffer)) continue;
      const offset = lowestGap(placed, tensor, request.alignment);
      const growth = Math.max(0, offset + tensor.bytes - sizes[buffer]!);
      if (offset + tensor.bytes > maxBufferBytes || (best && best.growth <= growth)) continue;
      best = { buffer, offset, growth };
    }
    best ??= { buffer: contents.push([]) - 1, offset: 0, growth: tensor.bytes };
    contents[best.buffer]!.push({ ...tensor, offset: best.offset });
    sizes[best.buffer] = Math.max(sizes[best.buffer] ?? 0, best.offset + tensor.bytes);
    placements[i] = { buffer: best.buffer, offset: best.offset };
  }
  return { placements: placements as Placement[], buffers: sizes };
}

/** The lowest aligned offset at which `tensor` overlaps nothing that lives at the same time. */
function lowestGap(placed: readonly Placed[], tensor: Lifetime, alignment: number): number {
  const alive = placed.filter((other) => other.first <= tensor.last && tensor.first <= other.last).sort((a, b) => a.offset - b.offset);
  let offset = 0;
  for (const other of alive) {
    if (offset + tensor.bytes <= other.offset) break;
    offset = Math.max(offset, Math.ceil((other.offset + other.bytes) / alignment) * alignment);
  }
  return offset;
}

/** Bytes alive at the busiest step: no plan can be smaller. */
export function liveLowerBound(tensors: readonly Lifetime[]): number {
  const change = new Map<number, number>();
  for (const { bytes, first, last } of tensors) {
    change.set(first, (change.get(first) ?? 0) + bytes);
    change.set(last + 1, (change.get(last + 1) ?? 0) - bytes);
  }
  let alive = 0;
  let peak = 0;
  for (const step of [...change.keys()].sort((a, b) => a - b)) {
    alive += change.get(step)!;
    peak = Math.max(peak, alive);
  }
  return peak;
}
