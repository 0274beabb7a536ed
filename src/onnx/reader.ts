/**
 * A protobuf reader for untrusted files: it gives up on one that would take far more memory than it has bytes.
 *
 * protobufjs makes an object of every message, two bytes on the wire, and a Long of every 64-bit integer, one byte. Here
 * the number of fields is bounded, and integers that a number holds exactly stay numbers.
 */
import protobuf from 'protobufjs/minimal.js';
import { invalid } from './invalid.ts';

/** Tags, lengths and small integers. A node takes about 60; the largest published graphs have some 20,000 nodes. */
const MAX_FIELDS = 1 << 22;

type Long = ReturnType<protobuf.Reader['int64']>;

class BoundedReader extends protobuf.Reader {
  #fields = 0;

  override uint32(): number {
    if (++this.#fields > MAX_FIELDS) throw invalid(`the file describes more than ${MAX_FIELDS} fields`, 'file');
    return super.uint32();
  }

  /** An element of packed data as a rule, which its bytes bound. */
  override int32(): number {
    this.#fields--;
    return super.int32();
  }

  override int64(): Long {
    return narrow(super.int64());
  }

  override uint64(): Long {
    return narrow(super.uint64());
  }
}

/** A Long as a number where that is exact. The types of protobufjs allow for Long alone, its messages for both. */
function narrow(value: Long): Long {
  const { low, high, unsigned } = value;
  const number = (unsigned ? high >>> 0 : high) * 2 ** 32 + (low >>> 0);
  return Number.isSafeInteger(number) ? (number as unknown as Long) : value;
}

/** A reader of these bytes; what it reads are views of them. */
export function boundedReader(bytes: Uint8Array): protobuf.Reader {
  return new BoundedReader(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength));
}
