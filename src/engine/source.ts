/** Where the bytes of an engine file come from, from first to last: memory and streams. Files are in read.ts, which browsers do not load. */
import { unshared } from '../ir/tensor.ts';

export interface ByteSource {
  /** Bytes of the whole, where they are known before they come. */
  readonly size: number | undefined;
  /** The next bytes: as many as are asked for, fewer where they end. */
  take(length: number): Promise<Uint8Array>;
  /** Nothing more is wanted. */
  close(): Promise<void>;
}

/** What it gives are views, or views of a copy where the bytes are in shared memory. */
export function bytesSource(shared: Uint8Array): ByteSource {
  const bytes = unshared(shared);
  let at = 0;
  return {
    size: bytes.length,
    take: async (length) => bytes.subarray(at, (at += Math.min(length, bytes.length - at))),
    close: async () => undefined,
  };
}

/** Cancels the stream where it is closed before its end. */
export function streamSource(stream: ReadableStream<Uint8Array>, size?: number): ByteSource {
  const reader = stream.getReader();
  /** What came and was not asked for yet. */
  let rest: Uint8Array = new Uint8Array();
  return {
    size,
    async take(length) {
      const bytes = new Uint8Array(length);
      let have = 0;
      for (;;) {
        const piece = rest.subarray(0, length - have);
        bytes.set(piece, have);
        have += piece.length;
        rest = rest.subarray(piece.length);
        if (have === length) return bytes;
        const { value } = await reader.read();
        if (value === undefined) return bytes.subarray(0, have);
        rest = value;
      }
    },
    close: () => reader.cancel(),
  };
}
