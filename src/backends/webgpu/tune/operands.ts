/**
 * Memory for the operands of kernels that are timed: a few buffers that all candidates share, each as large as the largest operand
 * that was ever bound to it, full of random numbers (a chip that multiplies zeros draws less power and runs faster).
 *
 * Constants of a single product lie there several times over, for the repetitions to take turns: what is read again at once would come from a cache, and in a
 * network it comes from memory. Those of a whole network are small numbers, so that what comes of them stays finite from layer to layer. Buffers that kernels read are never ones that any kernel writes, so that WebGPU's rule (no dispatch reads what it writes) holds and
 * inputs stay what they are.
 */
import type { Storage } from '../../../engine/plan.ts';
import { createRandom } from '../../../stats/random.ts';
import { outOfMemory } from '../fits.ts';
import { USAGE } from '../resources.ts';
import { scoped } from '../scopes.ts';
import type { TimedCandidate } from './problems.ts';

/** Bytes of random numbers, copied over every buffer again and again. */
const PATTERN_BYTES = 2 ** 20;

/** A buffer's place: tensors of one storage, those that are written and a network's constants apart from the others, in the order of their appearance. */
type Kind = `${Storage} ${'read' | 'write' | 'once'}`;
type Place = `${Kind} ${number}`;

/** Magnitudes of a network's constants beside those of other operands. */
const SMALL = 2 ** -4;

/** Alignment of a binding's beginning, of every device by WebGPU's default limits. */
const ALIGNMENT = 256;

/** Constants that are smaller are no reason to wait. */
const SMALL_BYTES = 2 ** 16;

export class OperandPool {
  readonly #device: GPUDevice;
  readonly #coldBytes: number;
  readonly #buffers = new Map<Place, GPUBuffer>();
  readonly #patterns = new Map<string, GPUBuffer>();

  /** `coldBytes`: all copies of a constant together are as large, 0 for one copy. */
  constructor(device: GPUDevice, coldBytes: number) {
    this.#device = device;
    this.#coldBytes = coldBytes;
  }

  /** Makes room for all of the candidates together; true where bindings from before hold no longer. Throws TsrtError OUT_OF_MEMORY. */
  async reserve(candidates: readonly TimedCandidate[]): Promise<boolean> {
    const wanted = new Map<Place, number>();
    for (const candidate of candidates) {
      for (const home of placesOf(candidate).values()) wanted.set(home.place, Math.max(wanted.get(home.place) ?? 0, this.#spanOf(home) * this.#copiesOf(home)));
    }
    const growing = [...wanted].filter(([place, bytes]) => (this.#buffers.get(place)?.size ?? 0) < bytes);
    if (growing.length === 0) return false;
    const { done, fault } = await scoped(this.#device, 'out-of-memory', () => this.#grow(growing));
    if (done.status === 'rejected') throw done.reason;
    if (fault) {
      for (const [place] of growing) {
        this.#buffers.get(place)!.destroy();
        this.#buffers.delete(place);
      }
      throw outOfMemory(growing.reduce((sum, [, bytes]) => sum + bytes, 0), `operands for timing kernels: ${fault.message}`);
    }
    this.#device.queue.submit([done.value]);
    return true;
  }

  /** Makes buffers of these sizes; gives the commands that fill them. */
  #grow(growing: readonly (readonly [Place, number])[]): GPUCommandBuffer {
    const encoder = this.#device.createCommandEncoder();
    for (const [place, bytes] of growing) {
      this.#buffers.get(place)?.destroy();
      const buffer = this.#device.createBuffer({ label: place, size: bytes, usage: USAGE.storage | USAGE.copyDst });
      this.#buffers.set(place, buffer);
      const [storage, kind] = place.split(' ') as [Storage, string];
      const pattern = this.#pattern(storage, kind === 'once' ? SMALL : 1);
      for (let at = 0; at < bytes; at += PATTERN_BYTES) encoder.copyBufferToBuffer(pattern, 0, buffer, at, Math.min(PATTERN_BYTES, bytes - at));
    }
    return encoder.finish();
  }

  /** The bindings of each kernel of a candidate that has been {@link reserve}d, one set for each copy of the largest constant, up to `most`. */
  bindings(candidate: TimedCandidate, most: number): GPUBindGroupEntry[][][] {
    const places = placesOf(candidate);
    return candidate.kernels.map(({ operands }) => {
      const homes = operands.map(({ tensor }) => places.get(tensor)!);
      const turns = Math.min(most, Math.max(...homes.map((home) => this.#copiesOf(home))));
      return Array.from({ length: turns }, (_, turn) =>
        homes.map((home, binding) => {
          const offset = (turn % this.#copiesOf(home)) * this.#spanOf(home);
          return { binding, resource: { buffer: this.#buffers.get(home.place)!, offset, size: home.bytes } };
        }),
      );
    });
  }

  #spanOf({ bytes }: Home): number {
    return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
  }

  #copiesOf({ bytes, constant }: Home): number {
    return constant === 'repeated' && bytes >= SMALL_BYTES ? Math.max(1, Math.ceil(this.#coldBytes / bytes)) : 1;
  }

  #pattern(storage: Storage, scale: number): GPUBuffer {
    const key = `${storage} ${scale}`;
    const known = this.#patterns.get(key);
    if (known) return known;
    const buffer = this.#device.createBuffer({ label: `${storage} pattern`, size: PATTERN_BYTES, usage: USAGE.copySrc | USAGE.copyDst });
    this.#device.queue.writeBuffer(buffer, 0, randomElements(storage, PATTERN_BYTES, scale));
    this.#patterns.set(key, buffer);
    return buffer;
  }

  destroy(): void {
    for (const buffer of [...this.#buffers.values(), ...this.#patterns.values()]) buffer.destroy();
  }
}

/** Where a tensor lies. */
interface Home {
  readonly place: Place;
  readonly bytes: number;
  readonly constant: false | 'repeated' | 'once';
}

/** Where each tensor of a candidate lies, by its number. */
function placesOf({ kernels }: TimedCandidate): Map<number, Home> {
  const written = new Set(kernels.flatMap(({ access, operands }) => operands.filter((_, i) => access[i] === 'read_write').map(({ tensor }) => tensor)));
  const counts = new Map<string, number>();
  const places = new Map<number, Home>();
  for (const { tensor, constant, storage, bytes } of kernels.flatMap(({ operands }) => operands)) {
    if (places.has(tensor)) continue;
    const kind: Kind = `${storage} ${written.has(tensor) ? 'write' : constant === 'once' ? 'once' : 'read'}`;
    const index = counts.get(kind) ?? 0;
    counts.set(kind, index + 1);
    places.set(tensor, { place: `${kind} ${index}`, bytes, constant });
  }
  return places;
}

/**
 * Random elements that no kernel stumbles over: floats with magnitudes in [0.25, 1) times a power of two, so that there are no denormals and no sum
 * overflows f16 at once; any bytes; 0 or 1 for words, which may be masks or indices.
 */
export function randomElements(storage: Storage, bytes: number, scale = 1): Uint8Array<ArrayBuffer> {
  const random = createRandom(0x7a11);
  const data = new Uint8Array(bytes);
  const view = new DataView(data.buffer);
  switch (storage) {
    case 'f32':
      for (let at = 0; at < bytes; at += 4) view.setFloat32(at, scale * (0.25 + 0.75 * random.uniform()) * (random.uniform() < 0.5 ? -1 : 1), true);
      return data;
    case 'f16':
      // Sign, exponents 13 and 14 (0.25 to 1) or as far below as the scale says, any mantissa.
      for (let at = 0; at < bytes; at += 2) view.setUint16(at, (random.uniform() < 0.5 ? 0x8000 : 0) | (0x3400 + 0x400 * Math.log2(scale) + Math.floor(random.uniform() * 0x800)), true);
      return data;
    case 'i32':
    case 'u32':
      for (let at = 0; at < bytes; at += 4) view.setUint32(at, random.uniform() < 0.5 ? 0 : 1, true);
      return data;
    case 'i8':
    case 'u8':
      for (let at = 0; at < bytes; at++) data[at] = Math.floor(random.uniform() * 256);
      return data;
    default:
      return storage satisfies never;
  }
}
