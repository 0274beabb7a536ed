/**
 * What a file that is not an ONNX model looks like, so that the error can say it. The commonest: a Git LFS pointer, a
 * downloaded HTML page, a PyTorch checkpoint.
 */

interface Signature {
  readonly what: string;
  readonly fix: string;
  matches(bytes: Uint8Array, head: string): boolean;
}

const EXPORT = 'Export the network to ONNX first, for example with torch.onnx.export';

const SIGNATURES: readonly Signature[] = [
  {
    what: 'a Git LFS pointer, not the model itself',
    fix: 'Fetch the content with `git lfs pull`',
    matches: (_, head) => head.startsWith('version https://git-lfs'),
  },
  {
    what: 'an HTML page, probably the error page of a download',
    fix: 'Download the file itself (the "raw" link)',
    matches: (_, head) => /^\s*<(!doctype\s+html|html|head|body)/i.test(head),
  },
  { what: 'XML', fix: EXPORT, matches: (_, head) => /^\s*<\?xml/i.test(head) },
  { what: 'a zip archive (a PyTorch checkpoint or an archive of a model)', fix: `Unpack it. ${EXPORT}`, matches: starts(0x50, 0x4b, 0x03, 0x04) },
  { what: 'a gzip archive', fix: 'Unpack it with gunzip or tar', matches: starts(0x1f, 0x8b) },
  { what: 'an xz archive', fix: 'Unpack it with xz or tar', matches: starts(0xfd, 0x37, 0x7a, 0x58, 0x5a) },
  { what: 'a zstd archive', fix: 'Unpack it with zstd', matches: starts(0x28, 0xb5, 0x2f, 0xfd) },
  { what: 'a Python pickle (a PyTorch checkpoint)', fix: EXPORT, matches: (bytes) => bytes[0] === 0x80 && bytes[1]! >= 2 && bytes[1]! <= 5 && bytes.at(-1) === 0x2e },
  { what: 'an HDF5 file (a Keras model)', fix: 'convert it with tf2onnx', matches: starts(0x89, 0x48, 0x44, 0x46) },
  { what: 'a PNG image', fix: 'give the model file', matches: starts(0x89, 0x50, 0x4e, 0x47) },
  { what: 'a JPEG image', fix: 'give the model file', matches: starts(0xff, 0xd8, 0xff) },
  { what: 'a TensorFlow Lite model', fix: 'convert it with tf2onnx', matches: (_, head) => head.slice(4, 8) === 'TFL3' },
  { what: 'a model in ORT format', fix: 'give the ONNX file that it was made from', matches: (_, head) => head.slice(4, 8) === 'ORTM' },
  { what: 'a GGUF file', fix: EXPORT, matches: (_, head) => head.startsWith('GGUF') },
  { what: 'a NumPy array', fix: 'give the model file', matches: (_, head) => head.slice(1, 6) === 'NUMPY' },
  { what: 'a safetensors file: weights without a graph', fix: EXPORT, matches: (bytes) => bytes.length > 9 && bytes[8] === 0x7b && bytes[6] === 0 && bytes[7] === 0 },
  { what: 'an executable', fix: 'give the model file', matches: starts(0x7f, 0x45, 0x4c, 0x46) },
  { what: 'JSON', fix: 'Give the .onnx file; a suite file goes to `tsrt-bench run`', matches: (bytes, head) => /^\s*[[{]/.test(head) && isText(bytes) },
  { what: 'a text file', fix: 'give the .onnx file', matches: (bytes) => bytes.length > 3 && isText(bytes) },
];

/** What the bytes look like and what to do, or undefined where they may well be protobuf. */
export function sniffForeign(bytes: Uint8Array): { readonly what: string; readonly fix: string } | undefined {
  const head = new TextDecoder('latin1').decode(bytes.subarray(0, 512));
  return SIGNATURES.find((signature) => signature.matches(bytes, head));
}

function starts(...magic: readonly number[]): (bytes: Uint8Array) => boolean {
  return (bytes) => magic.every((byte, index) => bytes[index] === byte);
}

/** UTF-8 without control characters. A model's protobuf always holds some in its first fields: tags and lengths. */
function isText(bytes: Uint8Array): boolean {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, 512), { stream: true });
    return !/\p{Cc}/u.test(text.replace(/[\t\r\n]/g, ''));
  } catch {
    return false;
  }
}
