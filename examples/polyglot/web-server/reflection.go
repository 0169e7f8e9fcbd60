package main

import (
	"fmt"
	"io"
	"sort"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	rpb "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// registerReflection describes the server's methods to callers. The library of Debian 12 has only v1alpha; v1 has the
// same messages.
func registerReflection(server *grpc.Server) {
	for _, version := range []string{"v1", "v1alpha"} {
		server.RegisterService(&grpc.ServiceDesc{
			ServiceName: "grpc.reflection." + version + ".ServerReflection",
			HandlerType: (*interface{})(nil),
			Streams: []grpc.StreamDesc{{
				StreamName:    "ServerReflectionInfo",
				Handler:       func(_ interface{}, stream grpc.ServerStream) error { return reflect(server, stream) },
				ServerStreams: true,
				ClientStreams: true,
			}},
		}, struct{}{})
	}
}

func reflect(server *grpc.Server, stream grpc.ServerStream) error {
	for {
		request := new(rpb.ServerReflectionRequest)
		if err := stream.RecvMsg(request); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		answer := &rpb.ServerReflectionResponse{ValidHost: request.Host, OriginalRequest: request}
		switch asked := request.MessageRequest.(type) {
		case *rpb.ServerReflectionRequest_ListServices:
			answer.MessageResponse = listServices(server)
		case *rpb.ServerReflectionRequest_FileByFilename:
			file, err := protoregistry.GlobalFiles.FindFileByPath(asked.FileByFilename)
			describe(answer, file, err)
		case *rpb.ServerReflectionRequest_FileContainingSymbol:
			name := protoreflect.FullName(asked.FileContainingSymbol)
			found, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
			if err != nil {
				describe(answer, nil, err)
			} else {
				describe(answer, found.ParentFile(), nil)
			}
		default:
			refuse(answer, codes.Unimplemented, "proto3 has no extensions")
		}
		if err := stream.SendMsg(answer); err != nil {
			return err
		}
	}
}

func listServices(server *grpc.Server) *rpb.ServerReflectionResponse_ListServicesResponse {
	list := &rpb.ListServiceResponse{}
	for name := range server.GetServiceInfo() {
		list.Service = append(list.Service, &rpb.ServiceResponse{Name: name})
	}
	sort.Slice(list.Service, func(i, j int) bool { return list.Service[i].Name < list.Service[j].Name })
	return &rpb.ServerReflectionResponse_ListServicesResponse{ListServicesResponse: list}
}

func describe(answer *rpb.ServerReflectionResponse, file protoreflect.FileDescriptor, err error) {
	if err != nil {
		refuse(answer, codes.NotFound, err.Error())
		return
	}
	text, err := proto.Marshal(protodesc.ToFileDescriptorProto(file))
	if err != nil {
		refuse(answer, codes.Internal, fmt.Sprint(err))
		return
	}
	answer.MessageResponse = &rpb.ServerReflectionResponse_FileDescriptorResponse{
		FileDescriptorResponse: &rpb.FileDescriptorResponse{FileDescriptorProto: [][]byte{text}},
	}
}

func refuse(answer *rpb.ServerReflectionResponse, code codes.Code, message string) {
	answer.MessageResponse = &rpb.ServerReflectionResponse_ErrorResponse{
		ErrorResponse: &rpb.ErrorResponse{ErrorCode: int32(code), ErrorMessage: message},
	}
}
