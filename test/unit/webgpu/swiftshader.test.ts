import { describe, expect, it } from 'vitest';
import { readTar } from '../../../src/backends/webgpu/swiftshader.ts';

/** A ustar header and its content, padded to blocks. */
function entry(name: string, content: string, type = '0'): Uint8Array {
  const bytes = new Uint8Array(512 + Math.ceil(content.length / 512) * 512);
  const write = (at: number, text: string): void => bytes.set(new TextEncoder().encode(text), at);
  write(0, name);
  write(124, content.length.toString(8).padStart(11, '0'));
  write(156, type);
  write(512, content);
  return bytes;
}

function tar(...entries: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat([...entries, new Uint8Array(1024)]));
}

describe('readTar', () => {
  it('reads regular files by base name and skips the rest', () => {
    const files = readTar(tar(entry('bin/', '', '5'), entry('bin/a.so', 'x'.repeat(700)), entry('b.json', '{}')));
    expect([...files.keys()]).toEqual(['a.so', 'b.json']);
    expect(new TextDecoder().decode(files.get('b.json'))).toBe('{}');
    expect(files.get('a.so')!.length).toBe(700);
  });

  it('refuses an archive that is cut off or has no sizes', () => {
    const whole = tar(entry('a', 'x'.repeat(2000)));
    expect(() => readTar(whole.subarray(0, 1024))).toThrow('cut off');
    const nonsense = entry('a', 'x');
    nonsense.set(new TextEncoder().encode('not octal!!'), 124);
    expect(() => readTar(tar(nonsense))).toThrow('cut off');
  });
});
