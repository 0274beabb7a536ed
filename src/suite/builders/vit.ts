/**
 * ViT-B/16 at 224 × 224: Dosovitskiy et al., "An image is worth 16x16 words" (2020), 86,567,656 parameters at 1,000 classes. Written
 * as PyTorch's exporter writes timm's `vit_base_patch16_224`: one projection for queries, keys and values, transposed and
 * picked apart; scaled_dot_product_attention out of primitives with √s on each operand; GELU through Erf; LayerNormalization as one op.
 *
 * `pixel_values` float32 [N,3,224,224] → `logits` float32 [N,classes].
 */
import { createOnnxWriter, type OnnxPlan, type OnnxWriter } from './onnx-writer.ts';
import { gelu, layerNorm, linear, STD } from './transformer.ts';

const LAYERS = 12;
const HIDDEN = 768;
const HEADS = 12;
const HEAD_SIZE = HIDDEN / HEADS;
const INNER = 3072;
const IMAGE = 224;
const PATCH = 16;
const PATCHES = (IMAGE / PATCH) ** 2;
const TOKENS = PATCHES + 1;
/** Of the classes' scores, whose features have a mean square of 1. */
const SCORE_SPREAD = 6;

export function buildVitB16(options: { readonly seed: number; readonly classes: number }): OnnxPlan {
  const writer = createOnnxWriter('vit-b16', options.seed);
  const constants = sharedConstants(writer);
  const pixels = writer.input('pixel_values', 'float32', ['N', 3, IMAGE, IMAGE]);
  let x = embeddings(writer, constants, pixels);
  for (let block = 0; block < LAYERS; block++) x = encoderBlock(writer, constants, `blocks.${block}`, x);
  const normal = norm(writer, 'norm', x);
  const token = writer.node('Gather', [normal, writer.ints('class_token_index', [], [0])], { name: 'pool', attrs: { axis: 1 } });
  const weight = writer.normal('head.weight', [options.classes, HIDDEN], SCORE_SPREAD / Math.sqrt(HIDDEN), 'centred');
  const bias = writer.normal('head.bias', [options.classes], STD);
  const logits = writer.node('Gemm', [token, weight, bias], { name: 'head', attrs: { transB: 1, alpha: { float: 1 }, beta: { float: 1 } } });
  writer.output(logits, 'logits', ['N', options.classes]);
  return writer.finish();
}

/** Scalars and shapes that every block uses. A 0 in a Reshape keeps the dimension: the batch stays symbolic. */
function sharedConstants(writer: OnnxWriter) {
  const scalar = (name: string, value: number) => writer.weight(name, [], () => value);
  return {
    one: scalar('one', 1),
    half: scalar('half', 0.5),
    sqrt2: scalar('sqrt_2', Math.SQRT2),
    rootScale: scalar('sqrt_scale', HEAD_SIZE ** -0.25),
    split: writer.ints('shape_split_heads', [5], [0, TOKENS, 3, HEADS, HEAD_SIZE]),
    join: writer.ints('shape_join_heads', [3], [0, TOKENS, HIDDEN]),
    parts: [0, 1, 2].map((part) => writer.ints(`part_${part}`, [], [part])),
    first: writer.ints('first_axis', [1], [0]),
  };
}
type Constants = ReturnType<typeof sharedConstants>;

/** Patches through a convolution, the class token before them, positions added: [N,197,768]. */
function embeddings(writer: OnnxWriter, { first }: Constants, pixels: string): string {
  const weight = writer.normal('patch_embed.proj.weight', [HIDDEN, 3, PATCH, PATCH], 1 / Math.sqrt(3 * PATCH * PATCH));
  const bias = writer.normal('patch_embed.proj.bias', [HIDDEN], STD);
  const grid = writer.node('Conv', [pixels, weight, bias], {
    name: 'patch_embed.proj',
    attrs: { kernel_shape: [PATCH, PATCH], strides: [PATCH, PATCH], pads: [0, 0, 0, 0], dilations: [1, 1], group: 1 },
  });
  const flat = writer.node('Reshape', [grid, writer.ints('shape_patches', [3], [0, HIDDEN, PATCHES])]);
  const patches = writer.node('Transpose', [flat], { attrs: { perm: [0, 2, 1] } });
  const batch = writer.node('Gather', [writer.node('Shape', [pixels]), writer.ints('batch_axis', [], [0])], { attrs: { axis: 0 } });
  const shape = writer.node('Concat', [writer.node('Unsqueeze', [batch, first]), writer.ints('token_dims', [2], [1, HIDDEN])], { attrs: { axis: 0 } });
  const token = writer.node('Expand', [writer.normal('cls_token', [1, 1, HIDDEN], STD), shape], { name: 'cls_token.expand' });
  const tokens = writer.node('Concat', [token, patches], { attrs: { axis: 1 } });
  return writer.node('Add', [tokens, writer.normal('pos_embed', [1, TOKENS, HIDDEN], STD)]);
}

function encoderBlock(writer: OnnxWriter, constants: Constants, name: string, x: string): string {
  const attended = writer.node('Add', [x, attention(writer, constants, `${name}.attn`, norm(writer, `${name}.norm1`, x))]);
  const inner = gelu(writer, constants, dense(writer, `${name}.mlp.fc1`, norm(writer, `${name}.norm2`, attended), HIDDEN, INNER));
  return writer.node('Add', [attended, dense(writer, `${name}.mlp.fc2`, inner, INNER, HIDDEN)]);
}

function attention(writer: OnnxWriter, constants: Constants, name: string, x: string): string {
  const projected = writer.node('Reshape', [dense(writer, `${name}.qkv`, x, HIDDEN, 3 * HIDDEN), constants.split]);
  const parts = writer.node('Transpose', [projected], { attrs: { perm: [2, 0, 3, 1, 4] } });
  const part = (index: string) => writer.node('Gather', [parts, index], { attrs: { axis: 0 } });
  const [query, key, value] = constants.parts.map(part) as [string, string, string];
  const swapped = writer.node('Transpose', [key], { attrs: { perm: [0, 1, 3, 2] } });
  const scores = writer.node('MatMul', [writer.node('Mul', [query, constants.rootScale]), writer.node('Mul', [swapped, constants.rootScale])]);
  const mixed = writer.node('MatMul', [writer.node('Softmax', [scores], { attrs: { axis: -1 } }), value]);
  const joined = writer.node('Reshape', [writer.node('Transpose', [mixed], { attrs: { perm: [0, 2, 1, 3] } }), constants.join]);
  return dense(writer, `${name}.proj`, joined, HIDDEN, HIDDEN);
}

/** As this model's layers have them. */
const dense = (writer: OnnxWriter, name: string, x: string, from: number, to: number): string => linear(writer, name, x, [from, to], 1 / Math.sqrt(from));
const norm = (writer: OnnxWriter, name: string, x: string): string => layerNorm(writer, name, x, HIDDEN, 1e-6);
