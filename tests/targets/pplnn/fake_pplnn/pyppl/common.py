"""Return codes and types."""

RC_SUCCESS, RC_UNSUPPORTED, RC_INVALID_VALUE = 0, 5, 4
DATATYPE_FLOAT16, DATATYPE_FLOAT32 = 10, 11


def GetRetCodeStr(code: int) -> str:  # noqa: N802 - the API's name
    return {0: "success", 4: "invalid value", 5: "unsupported"}[code]
