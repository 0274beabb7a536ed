/** Names of the parts of an onnxruntime engine. */

/** The ONNX file that onnxruntime loads. */
export const MODEL_PART = 'model.onnx';
/** Prefix of external data: what follows is the name that the model has for the file. Only models passed through have any. */
export const EXTERNAL_PREFIX = 'external/';
