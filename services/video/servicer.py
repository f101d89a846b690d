"""The RPCs of the video service. Those not built yet answer UNIMPLEMENTED through the generated base class."""

from contentlab.video.v1 import video_service_pb2_grpc


class VideoServicer(video_service_pb2_grpc.VideoServiceServicer):
    """`contentlab.video.v1.VideoService`."""
