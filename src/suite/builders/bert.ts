/**
 * BERT-base: Devlin et al., "BERT: pre-training of deep bidirectional transformers" (2018), uncased vocabulary, with the
 * pooler: 109,482,240 parameters. Written as exporters write it: MatMul and Add, attention out of primitives, GELU through
 * Erf, LayerNormalization as one op. Weights start as the paper's do, from a truncated normal with deviation 0.02.
 *
 * `input_ids`, `attention_mask`, `token_type_ids` int64 [N,128] → `last_hidden_state` float32 [N,128,768], `pooler_output`
 * float32 [N,768].
 */
import { createOnnxWriter, type OnnxPlan, type OnnxWriter } from './onnx-writer.ts';
import { gelu, layerNorm, linear, STD } from './transformer.ts';

const LAYERS = 12;
const HIDDEN = 768;
const HEADS = 12;
const HEAD_SIZE = HIDDEN / HEADS;
const INNER = 3072;
const VOCABULARY = 30522;
const POSITIONS = 512;
const TOKEN_TYPES = 2;
const SEQUENCE = 128;

export function buildBertBase(options: { readonly seed: number }): OnnxPlan {
  const writer = createOnnxWriter('bert-base', options.seed);
  const constants = sharedConstants(writer);
  const ids = writer.input('input_ids', 'int64', ['N', SEQUENCE]);
  const mask = writer.input('attention_mask', 'int64', ['N', SEQUENCE]);
  const types = writer.input('token_type_ids', 'int64', ['N', SEQUENCE]);
  const bias = attentionBias(writer, constants, mask);
  let x = embeddings(writer, ids, types);
  for (let layer = 0; layer < LAYERS; layer++) x = encoderLayer(writer, constants, `encoder.layer.${layer}`, x, bias);
  const first = writer.node('Gather', [x, writer.ints('first_token', [], [0])], { name: 'pooler.first', attrs: { axis: 1 } });
  const pooled = writer.node('Tanh', [dense(writer, 'pooler.dense', first, HIDDEN, HIDDEN)]);
  writer.output(x, 'last_hidden_state', ['N', SEQUENCE, HIDDEN]);
  writer.output(pooled, 'pooler_output', ['N', HIDDEN]);
  return writer.finish();
}

/** Scalars and shapes that every layer uses. A 0 in a Reshape keeps the dimension: the batch stays symbolic. */
function sharedConstants(writer: OnnxWriter) {
  const scalar = (name: string, value: number) => writer.weight(name, [], () => value);
  return {
    one: scalar('one', 1),
    half: scalar('half', 0.5),
    sqrt2: scalar('sqrt_2', Math.SQRT2),
    sqrtHead: scalar('sqrt_head_size', Math.sqrt(HEAD_SIZE)),
    masked: scalar('masked', -10000),
    split: writer.ints('shape_split_heads', [4], [0, 0, HEADS, HEAD_SIZE]),
    join: writer.ints('shape_join_heads', [3], [0, 0, HIDDEN]),
    maskAxes: writer.ints('mask_axes', [2], [1, 2]),
  };
}
type Constants = ReturnType<typeof sharedConstants>;

/** 0 where attention is allowed, −10000 where the mask is 0: [N,1,1,sequence], added to the scores. */
function attentionBias(writer: OnnxWriter, constants: Constants, mask: string): string {
  const wide = writer.node('Unsqueeze', [mask, constants.maskAxes], { name: 'mask.unsqueeze' });
  const float = writer.node('Cast', [wide], { name: 'mask.cast', attrs: { to: 1 } });
  const inverse = writer.node('Sub', [constants.one, float], { name: 'mask.inverse' });
  return writer.node('Mul', [inverse, constants.masked], { name: 'mask.bias' });
}

function embeddings(writer: OnnxWriter, ids: string, types: string): string {
  const table = (name: string, rows: number) => writer.normal(`embeddings.${name}.weight`, [rows, HIDDEN], STD);
  const positions = writer.ints('position_ids', [1, SEQUENCE], Array.from({ length: SEQUENCE }, (_, i) => i));
  const word = writer.node('Gather', [table('word_embeddings', VOCABULARY), ids], { name: 'embeddings.word' });
  const type = writer.node('Gather', [table('token_type_embeddings', TOKEN_TYPES), types], { name: 'embeddings.type' });
  const position = writer.node('Gather', [table('position_embeddings', POSITIONS), positions], { name: 'embeddings.position' });
  const sum = writer.node('Add', [writer.node('Add', [word, type]), position]);
  return norm(writer, 'embeddings.LayerNorm', sum);
}

function encoderLayer(writer: OnnxWriter, constants: Constants, name: string, x: string, bias: string): string {
  const heads = (part: string, perm: readonly number[]) => {
    const projected = dense(writer, `${name}.attention.self.${part}`, x, HIDDEN, HIDDEN);
    return writer.node('Transpose', [writer.node('Reshape', [projected, constants.split])], { attrs: { perm } });
  };
  const query = heads('query', [0, 2, 1, 3]);
  const key = heads('key', [0, 2, 3, 1]);
  const value = heads('value', [0, 2, 1, 3]);
  const scaled = writer.node('Div', [writer.node('MatMul', [query, key]), constants.sqrtHead]);
  const weights = writer.node('Softmax', [writer.node('Add', [scaled, bias])], { attrs: { axis: -1 } });
  const mixed = writer.node('Transpose', [writer.node('MatMul', [weights, value])], { attrs: { perm: [0, 2, 1, 3] } });
  const joined = writer.node('Reshape', [mixed, constants.join]);
  const attended = dense(writer, `${name}.attention.output.dense`, joined, HIDDEN, HIDDEN);
  const y = norm(writer, `${name}.attention.output.LayerNorm`, writer.node('Add', [attended, x]));
  const inner = gelu(writer, constants, dense(writer, `${name}.intermediate.dense`, y, HIDDEN, INNER));
  const outer = dense(writer, `${name}.output.dense`, inner, INNER, HIDDEN);
  return norm(writer, `${name}.output.LayerNorm`, writer.node('Add', [outer, y]));
}

/** As this model's layers have them. */
const dense = (writer: OnnxWriter, name: string, x: string, from: number, to: number): string => linear(writer, name, x, [from, to], STD);
const norm = (writer: OnnxWriter, name: string, x: string): string => layerNorm(writer, name, x, HIDDEN, 1e-12);
